/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The tasks of the iSCSI target: slots, CmdSN order and the command window, the data of writes, and
 * task management. It neither reads bytes nor writes them. Invariants: a slot is in at most one
 * list; of a task's data-out `arrived_bytes` have come, in order, and what of them fits its place
 * stands there; MaxCmdSN never goes back. */

#include "front/iscsi_target_inner.h"

enum { AHEAD_NOTHING = 0, AHEAD_TAKEN = 1, AHEAD_TASK = 2 /* and the slot's index */ };

enum { STATUS_BUSY = 0x08 };

_Static_assert(AHEAD_TASK + ISCSI_TARGET_TASKS(ISCSI_TARGET_WINDOW_LIMIT) <= 256, "one byte each");

/* ---- lists ---- */

static void list_push(struct iscsi_target *target, uint16_t *first, uint16_t *last,
                      struct iscsi_target_task *task)
{
    task->next = NO_TASK;
    if (*first == NO_TASK)
        *first = (uint16_t)task->index;
    else
        target->tasks[*last].next = (uint16_t)task->index;
    *last = (uint16_t)task->index;
}

static struct iscsi_target_task *list_pop(struct iscsi_target *target, uint16_t *first)
{
    struct iscsi_target_task *task;

    if (*first == NO_TASK)
        return NULL;
    task = &target->tasks[*first];
    *first = task->next;
    return task;
}

static void send_queue(struct iscsi_target *target, struct iscsi_target_task *task)
{
    CHECK(!task->queued);
    task->queued = true;
    list_push(target, &target->send_first, &target->send_last, task);
}

static void send_unlink(struct iscsi_target *target, struct iscsi_target_task *task)
{
    uint16_t before = NO_TASK, at = target->send_first;

    CHECK(task->queued);
    while (at != task->index) {
        CHECK(at != NO_TASK);
        before = at;
        at = target->tasks[at].next;
    }
    if (before == NO_TASK)
        target->send_first = task->next;
    else
        target->tasks[before].next = task->next;
    if (target->send_last == task->index)
        target->send_last = before;
    task->queued = false;
}

struct iscsi_target_task *task_send_first(struct iscsi_target *target)
{
    return target->send_first == NO_TASK ? NULL : &target->tasks[target->send_first];
}

void task_send_drop_first(struct iscsi_target *target)
{
    send_unlink(target, task_send_first(target));
}

/* ---- slots ---- */

static bool recyclable(const struct iscsi_target_task *task)
{
    return task->state == ISCSI_TASK_ABORTED && !task->was_told;
}

/* A slot whose aborted task only waits for data that may never come. */
static struct iscsi_target_task *find_recyclable(const struct iscsi_target *target)
{
    for (uint16_t i = 0; i < target->fresh_count; i++)
        if (recyclable(&target->tasks[i]))
            return &target->tasks[i];
    return NULL;
}

bool task_slot_there(const struct iscsi_target *target)
{
    return target->free_first != NO_TASK || target->fresh_count < target->task_count ||
           find_recyclable(target) != NULL;
}

static struct iscsi_target_task *slot_take(struct iscsi_target *target)
{
    struct iscsi_target_task *task = list_pop(target, &target->free_first);

    if (!task && target->fresh_count < target->task_count) {
        task = &target->tasks[target->fresh_count];
        task->index = target->fresh_count++;
    }
    return task ? task : find_recyclable(target);
}

static void slot_free(struct iscsi_target *target, struct iscsi_target_task *task)
{
    task->state = ISCSI_TASK_FREE;
    target->itts[task->index] = ISCSI_NO_TAG;
    task->next = target->free_first;
    target->free_first = (uint16_t)task->index;
}

/* A request with that tag that is not over, or one that was aborted and whose data may still come.
 */
static struct iscsi_target_task *find_tag(struct iscsi_target *target, uint32_t itt)
{
    for (uint16_t i = 0; i < target->fresh_count; i++)
        if (target->itts[i] == itt)
            return &target->tasks[i];
    return NULL;
}

static bool is_open(const struct iscsi_target_task *task)
{
    return task->kind == KIND_COMMAND && task->was_told && !task->answered &&
           (task->state == ISCSI_TASK_OPEN || task->state == ISCSI_TASK_DATA ||
            task->state == ISCSI_TASK_ACTIVE);
}

struct iscsi_target_task *iscsi_target_find(struct iscsi_target *target, uint32_t itt)
{
    struct iscsi_target_task *task = itt == ISCSI_NO_TAG ? NULL : find_tag(target, itt);

    return task && is_open(task) ? task : NULL;
}

struct iscsi_target_task *iscsi_target_next(struct iscsi_target *target,
                                            const struct iscsi_target_task *after)
{
    for (uint32_t i = after ? after->index + 1 : 0; i < target->fresh_count; i++)
        if (is_open(&target->tasks[i]))
            return &target->tasks[i];
    return NULL;
}

/* The request uses no place in the window any more. */
static void window_leave(struct iscsi_target *target, struct iscsi_target_task *task)
{
    uint32_t *used = task->in_window ? &target->window_used : &target->immediate_used;

    CHECK(*used > 0);
    (*used)--;
}

/* Its buffers are the caller's again, if it has any. */
static void release(struct iscsi_target *target, struct iscsi_target_task *task)
{
    target->itts[task->index] = ISCSI_NO_TAG;
    if (!task->was_told) {
        slot_free(target, task);
        return;
    }
    target->leaving_count++;
    list_push(target, &target->released_first, &target->released_last, task);
}

struct iscsi_target_task *iscsi_target_released(struct iscsi_target *target)
{
    struct iscsi_target_task *task = list_pop(target, &target->released_first);

    if (task) {
        target->leaving_count--;
        slot_free(target, task);
    }
    return task;
}

void task_left(struct iscsi_target *target, struct iscsi_target_task *task)
{
    CHECK(task == task_send_first(target));
    task_send_drop_first(target);
    window_leave(target, task);
    target->itts[task->index] = ISCSI_NO_TAG;
    target->leaving_count++;
    task->in_list = true;
    list_push(target, &target->list_first, &target->list_last, task);
}

void task_list_over(struct iscsi_target *target)
{
    struct iscsi_target_task *task;

    while ((task = list_pop(target, &target->list_first)) != NULL) {
        target->leaving_count--;
        task->in_list = false;
        release(target, task);
    }
    task = task_send_first(target);
    if (task)
        task->in_list = false; /* its next PDU is generated anew */
}

/* ---- order ---- */

static uint32_t window_end(const struct iscsi_target *target)
{
    return target_answer(target, ISCSI_NOP_IN, 0).max_cmd_sn;
}

enum order task_order(const struct iscsi_target *target, const struct iscsi_pdu *pdu)
{
    if (pdu->immediate || pdu->cmd_sn == target->exp_cmd_sn)
        return pdu->immediate || !iscsi_sn_before(window_end(target), pdu->cmd_sn) ? ORDER_NOW
                                                                                   : ORDER_IGNORE;
    if (iscsi_sn_before(pdu->cmd_sn, target->exp_cmd_sn) ||
        iscsi_sn_before(window_end(target), pdu->cmd_sn) ||
        target->ahead[pdu->cmd_sn % ISCSI_TARGET_WINDOW_LIMIT] != AHEAD_NOTHING)
        return ORDER_IGNORE;
    return ORDER_AHEAD;
}

static void ahead_mark(struct iscsi_target *target, uint32_t cmd_sn, uint8_t mark)
{
    target->ahead[cmd_sn % ISCSI_TARGET_WINDOW_LIMIT] = mark;
    target->ahead_count++;
}

void task_order_take(struct iscsi_target *target, const struct iscsi_pdu *pdu, enum order order)
{
    if (pdu->immediate)
        return;
    if (order == ORDER_NOW)
        target->exp_cmd_sn++;
    else
        ahead_mark(target, pdu->cmd_sn, AHEAD_TAKEN);
}

/* A slot for this request; NULL: an immediate one too many, which was rejected. */
static struct iscsi_target_task *task_begin(struct iscsi_target *target, enum task_kind kind,
                                            enum order order)
{
    const struct iscsi_pdu *pdu = &target->receiver.pdu;
    struct iscsi_target_task *task;
    uint32_t index;

    if (pdu->immediate && target->immediate_used == ISCSI_TARGET_IMMEDIATE_LIMIT) {
        target_reject(target, ISCSI_REJECT_TOO_MANY_IMMEDIATE);
        return NULL;
    }
    task = slot_take(target);
    /* Window and immediate limit together are the slots; those being sent were waited for. */
    CHECK(task != NULL);
    index = task->index;
    *task = (struct iscsi_target_task){.index = index,
                                       .itt = pdu->itt,
                                       .immediate = pdu->immediate,
                                       .in_window = !pdu->immediate,
                                       .cmd_sn = pdu->cmd_sn,
                                       .kind = (uint8_t)kind,
                                       .state = ISCSI_TASK_OPEN,
                                       .sequence_ttt = ISCSI_NO_TAG,
                                       .next = NO_TASK};
    put_u64(task->lun, pdu->lun);
    target->itts[index] = pdu->itt;
    if (pdu->immediate) {
        target->immediate_used++;
        return task;
    }
    target->window_used++;
    if (order == ORDER_NOW) {
        target->exp_cmd_sn++;
        return task;
    }
    task->state = ISCSI_TASK_HELD;
    target->held_count++;
    ahead_mark(target, pdu->cmd_sn, (uint8_t)(AHEAD_TASK + index));
    return task;
}

/* ---- commands and their data ---- */

static enum iscsi_target_event tell(struct iscsi_target *target, struct iscsi_target_task *task)
{
    task->was_told = true;
    target->open_count++;
    target->task = task;
    return ISCSI_TARGET_COMMAND;
}

/* Whatever the task waited for may have come. */
static enum iscsi_target_event progress(struct iscsi_target *target, struct iscsi_target_task *task)
{
    if (task->sequence_open || task->state == ISCSI_TASK_HELD)
        return ISCSI_TARGET_MORE;
    if (task->state == ISCSI_TASK_ABORTED) {
        release(target, task);
        return ISCSI_TARGET_MORE;
    }
    if (task->answered) {
        if (!task->queued)
            send_queue(target, task);
        return ISCSI_TARGET_MORE;
    }
    if (!task->placed || task->state == ISCSI_TASK_ACTIVE)
        return ISCSI_TARGET_MORE;
    if (task->damaged) {
        task->state = ISCSI_TASK_ACTIVE;
        target->task = task;
        return ISCSI_TARGET_DAMAGED;
    }
    if (task->arrived_bytes < task->place_bytes) {
        if (!task->queued)
            send_queue(target, task); /* an R2T */
        return ISCSI_TARGET_MORE;
    }
    task->state = ISCSI_TASK_ACTIVE;
    task->received_bytes = task->place_bytes;
    target->task = task;
    return ISCSI_TARGET_DATA;
}

/* What is wrong with a command's header and immediate data; NULL when nothing is. */
static const char *command_check(const struct iscsi_target *target, const struct iscsi_pdu *pdu)
{
    const struct iscsi_params *params = &target->params;
    uint32_t expected = pdu->command.write ? pdu->command.expected_size : 0;

    if (pdu->itt == ISCSI_NO_TAG)
        return "a command without a task tag";
    if (pdu->data_size > 0 && !params->immediate_data)
        return "immediate data although ImmediateData=No";
    if (pdu->data_size > expected)
        return "more immediate data than the command transfers";
    if (pdu->data_size > params->first_burst_bytes)
        return "more immediate data than FirstBurstLength";
    if (!pdu->final && (params->initial_r2t || !pdu->command.write))
        return "unsolicited data announced although they are not allowed";
    return NULL;
}

/* The tag must be new; that of an aborted task may be used again at once. */
static bool tag_is_free(struct iscsi_target *target, uint32_t itt)
{
    struct iscsi_target_task *task = find_tag(target, itt);

    if (!task)
        return true;
    if (task->state != ISCSI_TASK_ABORTED)
        return false;
    if (recyclable(task))
        slot_free(target, task);
    else
        target->itts[task->index] = ISCSI_NO_TAG;
    return true;
}

enum iscsi_target_event task_on_command(struct iscsi_target *target, const uint8_t *data)
{
    const struct iscsi_pdu *pdu = &target->receiver.pdu;
    enum order order = task_order(target, pdu);
    struct iscsi_target_task *task;
    const char *wrong;

    target->placing = NO_TASK;
    if (order == ORDER_IGNORE) {
        target->ignored_count++;
        return ISCSI_TARGET_MORE;
    }
    wrong = command_check(target, pdu);
    if (!wrong && !tag_is_free(target, pdu->itt))
        wrong = "a task tag that is in use";
    if (wrong)
        return target_protocol_error(target, wrong);
    task = task_begin(target, KIND_COMMAND, order);
    if (!task)
        return ISCSI_TARGET_MORE;
    memcpy(task->cdb, pdu->command.cdb, sizeof task->cdb);
    task->attribute = pdu->command.attribute;
    task->read = pdu->command.read;
    task->write = pdu->command.write;
    task->expected_bytes = pdu->command.expected_size;
    task->unsolicited = task->write && (pdu->data_size > 0 || !pdu->final);
    task->sequence_end = min_u32(task->expected_bytes, target->params.first_burst_bytes);
    target->announced = (uint16_t)task->index;
    if (pdu->data_size > 0 && !data) {
        task->sequence_open = true; /* at least to the end of this PDU */
        target->placing = (uint16_t)task->index;
    } else {
        task->sequence_open = !pdu->final;
        task->arrived_bytes = pdu->data_size;
        target->whole_data = data;
        target->whole_bytes = pdu->data_size;
    }
    if (order == ORDER_NOW)
        return tell(target, task);
    target->task = task;
    return task->unsolicited ? ISCSI_TARGET_EARLY : ISCSI_TARGET_MORE;
}

void task_settle(struct iscsi_target *target)
{
    struct iscsi_receiver *receiver = &target->receiver;
    struct iscsi_target_task *task;

    if (target->announced != NO_TASK) {
        task = &target->tasks[target->announced];
        if (task->unsolicited && !task->placed && task->state == ISCSI_TASK_HELD)
            task->refused = true;
        /* The owner's duty: see ISCSI_TARGET_COMMAND. */
        CHECK_IMPLIES(task->unsolicited && task->state == ISCSI_TASK_OPEN,
                      task->placed || task->answered);
        target->announced = NO_TASK;
        target->whole_data = NULL;
        target->whole_bytes = 0;
    }
    if (receiver->state != ISCSI_AT_PLACING)
        return;
    task = target->placing == NO_TASK ? NULL : &target->tasks[target->placing];
    if (task && task->placed && task->state != ISCSI_TASK_ABORTED && !task->damaged &&
        task->arrived_bytes < task->place_bytes)
        iscsi_receiver_place(receiver, task->place + task->arrived_bytes,
                             task->place_bytes - task->arrived_bytes);
    else
        iscsi_receiver_place(receiver, target->scratch, 0);
}

enum iscsi_target_event task_on_command_data(struct iscsi_target *target)
{
    struct iscsi_target_task *task;

    if (target->placing == NO_TASK)
        return ISCSI_TARGET_MORE;
    task = &target->tasks[target->placing];
    target->placing = NO_TASK;
    task->arrived_bytes += target->receiver.pdu.data_size;
    task->sequence_open = !target->receiver.pdu.final && task->state != ISCSI_TASK_ABORTED;
    return progress(target, task);
}

bool iscsi_target_receive(struct iscsi_target *target, struct iscsi_target_task *task, void *place,
                          uint32_t size)
{
    CHECK(task->state == ISCSI_TASK_OPEN || task->state == ISCSI_TASK_HELD);
    CHECK(task->write && !task->placed && !task->answered);
    task->placed = true;
    task->place = place;
    task->place_bytes = min_u32(size, task->expected_bytes);
    if (target->announced == task->index && target->whole_data)
        memcpy(place, target->whole_data, min_u32(task->place_bytes, target->whole_bytes));
    if (task->state == ISCSI_TASK_HELD) {
        task->was_told = true;
        return false;
    }
    task->state = ISCSI_TASK_DATA;
    return progress(target, task) == ISCSI_TARGET_DATA;
}

/* What is wrong with a Data-Out of this task; NULL when it is the next one. */
static const char *data_out_check(const struct iscsi_target_task *task, const struct iscsi_pdu *pdu)
{
    uint32_t left = task->sequence_end - task->arrived_bytes;

    if (!task->sequence_open)
        return "a Data-Out that was not asked for";
    if (pdu->ttt != task->sequence_ttt)
        return "a Data-Out with a wrong target transfer tag";
    if (pdu->data.offset != task->arrived_bytes)
        return "a Data-Out with a wrong offset";
    if (pdu->data_size > left)
        return "a Data-Out beyond the end of its sequence";
    if (pdu->data_size == 0 && !pdu->final)
        return "a Data-Out that brings nothing";
    if (pdu->final && pdu->ttt != ISCSI_NO_TAG && pdu->data_size != left)
        return "a sequence that ends before its R2T does";
    return NULL;
}

struct iscsi_target_task *task_of_data_out(struct iscsi_target *target,
                                           enum iscsi_target_event *event)
{
    const struct iscsi_pdu *pdu = &target->receiver.pdu;
    struct iscsi_target_task *task = pdu->itt == ISCSI_NO_TAG ? NULL : find_tag(target, pdu->itt);
    const char *wrong;

    if (!task || task->state == ISCSI_TASK_ABORTED)
        return task;
    /* A number that is not the next one says that PDUs were lost: that costs the command, not the
     * session (RFC 7143 7.9, 7.8 b). Its data are taken to the end of the sequence. */
    if (task->sequence_open && pdu->ttt == task->sequence_ttt &&
        pdu->data.data_sn != task->exp_data_sn)
        task->damaged = true;
    if (task->damaged && task->sequence_open)
        return task;
    wrong = data_out_check(task, pdu);
    if (wrong)
        *event = target_protocol_error(target, wrong);
    return task;
}

enum iscsi_target_event task_on_data_out(struct iscsi_target *target,
                                         struct iscsi_target_task *task)
{
    const struct iscsi_receiver *receiver = &target->receiver;
    const struct iscsi_pdu *pdu = &receiver->pdu;

    target->placing = NO_TASK;
    if (task->state == ISCSI_TASK_ABORTED) {
        /* Bytes that were on their way to its place are here now; of what follows nothing is kept.
         */
        if (pdu->final || task->was_told)
            task->sequence_open = false;
        return progress(target, task);
    }
    if (task->damaged) {
        task->sequence_open = !pdu->final;
        return progress(target, task);
    }
    if (task->placed && task->arrived_bytes < task->place_bytes) {
        uint8_t *to = task->place + task->arrived_bytes;

        if (receiver->data != to && pdu->data_size > 0)
            memcpy(to, receiver->data,
                   min_u32(pdu->data_size, task->place_bytes - task->arrived_bytes));
    }
    task->arrived_bytes += pdu->data_size;
    task->exp_data_sn++;
    task->sequence_open = !pdu->final;
    return progress(target, task);
}

/* ---- answers ---- */

void iscsi_target_respond(struct iscsi_target *target, struct iscsi_target_task *task,
                          const struct iscsi_target_answer *answer)
{
    CHECK(is_open(task));
    CHECK(answer->sense_bytes <= ISCSI_TARGET_SENSE_LIMIT);
    task->answered = true;
    task->answer = *answer;
    if (task->read && !task->write)
        task->data_send = min_u32(answer->data_bytes, task->expected_bytes);
    CHECK_IMPLIES(task->data_send > 0, answer->data != NULL);
    task->state = ISCSI_TASK_ANSWER;
    target->open_count--;
    progress(target, task); /* an R2T that waits to be sent gives its place to the answer */
}

bool iscsi_target_abort(struct iscsi_target *target, struct iscsi_target_task *task)
{
    const bool left = task->in_list && !task->queued;

    CHECK(task->kind == KIND_COMMAND && task->was_told);
    CHECK(task->state >= ISCSI_TASK_OPEN && task->state <= ISCSI_TASK_ANSWER);
    if (!task->answered)
        target->open_count--;
    task->state = ISCSI_TASK_ABORTED;
    if (left)
        return false;
    if (task->in_list) {
        task_left(target, task); /* the first of the queue: that is how it came into the list */
        return false;
    }
    if (task->queued)
        send_unlink(target, task);
    window_leave(target, task);
    if (target->due == task->index)
        target->due = NO_TASK;
    if (target->placing == task->index && target->receiver.state != ISCSI_AT_PLACING)
        return false;
    task->was_told = false;
    if (!task->sequence_open)
        slot_free(target, task);
    return true;
}

/* ---- task management and logout ---- */

static void manage_answer(struct iscsi_target *target, struct iscsi_target_task *request,
                          uint8_t response)
{
    request->response = response;
    request->answered = true;
    request->state = ISCSI_TASK_ANSWER;
    progress(target, request);
}

void iscsi_target_manage_done(struct iscsi_target *target, struct iscsi_target_task *request,
                              enum iscsi_target_function_response response)
{
    CHECK(request->kind == KIND_MANAGE && request->state == ISCSI_TASK_OPEN);
    manage_answer(target, request, (uint8_t)response);
}

/* A command that never came to its turn ends. */
static void abort_held(struct iscsi_target *target, struct iscsi_target_task *task)
{
    target->ahead[task->cmd_sn % ISCSI_TARGET_WINDOW_LIMIT] = AHEAD_TAKEN;
    target->held_count--;
    window_leave(target, task);
    task->state = ISCSI_TASK_ABORTED;
    task->sequence_open = target->placing == task->index;
    progress(target, task);
}

/* ABORT TASK of what the caller does not have (RFC 7143 11.6.1). */
static uint8_t abort_other(struct iscsi_target *target, const struct iscsi_target_task *request)
{
    uint32_t cmd_sn = request->referenced_cmd_sn;
    struct iscsi_target_task *task =
        request->referenced_tag == ISCSI_NO_TAG ? NULL : find_tag(target, request->referenced_tag);

    if (task && task->kind == KIND_COMMAND && task->state == ISCSI_TASK_HELD) {
        abort_held(target, task);
        return ISCSI_FUNCTION_COMPLETE;
    }
    if (task || iscsi_sn_before(cmd_sn, target->exp_cmd_sn) ||
        iscsi_sn_before(window_end(target), cmd_sn) || !iscsi_sn_before(cmd_sn, request->cmd_sn) ||
        target->ahead[cmd_sn % ISCSI_TARGET_WINDOW_LIMIT] != AHEAD_NOTHING)
        return ISCSI_FUNCTION_NO_TASK;
    /* It has not come yet: when it does, it counts as received before. */
    ahead_mark(target, cmd_sn, AHEAD_TAKEN);
    return ISCSI_FUNCTION_COMPLETE;
}

static enum iscsi_target_event manage_begin(struct iscsi_target *target,
                                            struct iscsi_target_task *request)
{
    enum { ALLEGIANCE_NOT_SUPPORTED = 4, TASK_REASSIGN = 8 };
    struct iscsi_target_task *aborted = NULL;

    if (request->function == TASK_REASSIGN) {
        manage_answer(target, request, ALLEGIANCE_NOT_SUPPORTED);
        return ISCSI_TARGET_MORE;
    }
    if (request->function < ISCSI_ABORT_TASK || request->function > TASK_REASSIGN) {
        manage_answer(target, request, ISCSI_FUNCTION_NOT_SUPPORTED);
        return ISCSI_TARGET_MORE;
    }
    if (request->function == ISCSI_ABORT_TASK) {
        aborted = iscsi_target_find(target, request->referenced_tag);
        if (!aborted) {
            manage_answer(target, request, abort_other(target, request));
            return ISCSI_TARGET_MORE;
        }
    }
    target->manage =
        (struct iscsi_target_manage){.request = request,
                                     .function = (enum iscsi_target_function)request->function,
                                     .aborted = aborted};
    memcpy(target->manage.lun, request->lun, sizeof request->lun);
    return ISCSI_TARGET_MANAGE;
}

enum iscsi_target_event task_on_manage(struct iscsi_target *target)
{
    const struct iscsi_pdu *pdu = &target->receiver.pdu;
    enum order order = task_order(target, pdu);
    struct iscsi_target_task *request;

    if (order == ORDER_IGNORE) {
        target->ignored_count++;
        return ISCSI_TARGET_MORE;
    }
    if (pdu->itt == ISCSI_NO_TAG || !tag_is_free(target, pdu->itt))
        return target_protocol_error(target, "a task management request without a tag of its own");
    request = task_begin(target, KIND_MANAGE, order);
    if (!request)
        return ISCSI_TARGET_MORE;
    request->function = pdu->task.function;
    request->referenced_tag = pdu->task.referenced_tag;
    request->referenced_cmd_sn = pdu->task.referenced_cmd_sn;
    return order == ORDER_NOW ? manage_begin(target, request) : ISCSI_TARGET_MORE;
}

/* The session ends once what was answered before is sent. */
static enum iscsi_target_event logout_begin(struct iscsi_target *target,
                                            struct iscsi_target_task *request)
{
    manage_answer(target, request, 0);
    return target_end(target, ISCSI_TARGET_CLOSED);
}

enum iscsi_target_event task_on_logout(struct iscsi_target *target)
{
    enum { CLOSE_SESSION = 0, CLOSE_CONNECTION = 1, NO_SUCH_CID = 1, NO_RECOVERY = 2 };
    const struct iscsi_pdu *pdu = &target->receiver.pdu;
    enum order order = task_order(target, pdu);
    struct iscsi_target_task *request;
    uint8_t refusal = 0;

    if (order == ORDER_IGNORE) {
        target->ignored_count++;
        return ISCSI_TARGET_MORE;
    }
    if (pdu->logout.reason > CLOSE_CONNECTION)
        refusal = NO_RECOVERY;
    else if (pdu->logout.reason == CLOSE_CONNECTION && pdu->logout.cid != target->cid)
        refusal = NO_SUCH_CID;
    if (pdu->itt == ISCSI_NO_TAG || !tag_is_free(target, pdu->itt))
        return target_protocol_error(target, "a logout without a tag of its own");
    if (refusal) {
        struct iscsi_pdu answer;

        task_order_take(target, pdu, order);
        answer = target_answer(target, ISCSI_LOGOUT_RESPONSE, pdu->itt);
        answer.logout.response = refusal;
        target->stat_sn++;
        target_put(target, &answer, NULL);
        return ISCSI_TARGET_MORE;
    }
    request = task_begin(target, KIND_LOGOUT, order);
    if (!request)
        return ISCSI_TARGET_MORE;
    return order == ORDER_NOW ? logout_begin(target, request) : ISCSI_TARGET_MORE;
}

/* ---- what is due without bytes ---- */

/* A request that was ahead has its turn. */
static enum iscsi_target_event turn_of(struct iscsi_target *target, struct iscsi_target_task *task)
{
    CHECK(task->state == ISCSI_TASK_HELD);
    target->held_count--;
    task->state = task->placed ? ISCSI_TASK_DATA : ISCSI_TASK_OPEN;
    switch ((enum task_kind)task->kind) {
    case KIND_MANAGE:
        return manage_begin(target, task);
    case KIND_LOGOUT:
        return logout_begin(target, task);
    case KIND_COMMAND:
        break;
    }
    if (task->refused) {
        task->answered = true;
        task->answer = (struct iscsi_target_answer){.status = STATUS_BUSY};
        task->state = ISCSI_TASK_ANSWER;
        return progress(target, task);
    }
    if (task->placed)
        target->due = (uint16_t)task->index;
    return tell(target, task);
}

enum iscsi_target_event task_due(struct iscsi_target *target)
{
    enum iscsi_target_event event = ISCSI_TARGET_MORE;

    if (target->due != NO_TASK) {
        struct iscsi_target_task *task = &target->tasks[target->due];

        target->due = NO_TASK;
        event = progress(target, task);
    }
    while (event == ISCSI_TARGET_MORE && target->ahead_count > 0) {
        uint8_t *mark = &target->ahead[target->exp_cmd_sn % ISCSI_TARGET_WINDOW_LIMIT];
        uint8_t found = *mark;

        if (found == AHEAD_NOTHING)
            break;
        *mark = AHEAD_NOTHING;
        target->ahead_count--;
        target->exp_cmd_sn++;
        if (found != AHEAD_TAKEN)
            event = turn_of(target, &target->tasks[found - AHEAD_TASK]);
    }
    return event;
}
