/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* PERSISTENT RESERVE OUT (SPC-4 6.16, 5.13). Each service action makes a whole new record from the
 * one that is there and submits it against that one's version; when another change was first, the
 * action is judged anew. So it happens once, wholly or not at all, and in one order with those of
 * the other controller. It never touches a nexus or a task: what the change means to them is
 * derived from the record when it arrives. */

#include "scsi/sense.h"

enum {
    REGISTER = 0,
    RESERVE = 1,
    RELEASE = 2,
    CLEAR = 3,
    PREEMPT = 4,
    PREEMPT_AND_ABORT = 5,
    REGISTER_AND_IGNORE_EXISTING_KEY = 6,
    REGISTER_AND_MOVE = 7,

    /* The basic parameter list (table 196). */
    AT_KEY = 0,
    AT_SERVICE_KEY = 8,
    AT_FLAGS = 20,
    AT_PORT_LIST = 24,
    BASIC_BYTES = 24,
    APTPL = 0x01,
    ALL_TG_PT = 0x04,
    SPEC_I_PT = 0x08,

    /* The list of REGISTER AND MOVE (table 199). */
    AT_MOVE_FLAGS = 17,
    AT_MOVE_PORT = 18,
    AT_MOVE_LENGTH = 20,
    UNREG = 0x02,

    /* A TransportID of an iSCSI initiator port (7.6.4.6). */
    PROTOCOL_ISCSI = 5,
    FORMAT_PORT = 1, /* TPID FORMAT 01b: name and ISID */
    TRANSPORT_HEAD = 4,
    TRANSPORT_LEAST = 20,

    LIST_LIMIT = SCSI_PARAMETER_BYTES, /* 256 ports with the longest names */
};

/* What became of an action. */
enum verdict {
    ANSWERED, /* the task has its status: nothing changes */
    UNCHANGED,
    CHANGED,
    CHANGED_WITH_BARRIER, /* and what had begun before must have ended */
};

/* One PERSISTENT RESERVE OUT while it is judged: the task, what its list says, and the draft. */
struct out {
    struct scsi_task *task;
    const uint8_t *list;
    uint32_t list_bytes;
    uint8_t action;
    uint8_t type;  /* of the CDB */
    uint8_t scope; /* of the CDB */
    uint64_t key;
    uint64_t service_key;
    struct record *draft;
    uint32_t self; /* this nexus among the draft's registrants; NO_INDEX: not registered */
};

static enum verdict conflict(struct out *out)
{
    (void)task_status(out->task, SCSI_RESERVATION_CONFLICT);
    return ANSWERED;
}

static enum verdict wrong_list(struct out *out, uint32_t byte, int bit)
{
    (void)sense_invalid_field_in_list(out->task, (uint16_t)byte, bit);
    return ANSWERED;
}

static enum verdict wrong_length(struct out *out)
{
    (void)sense_list_length(out->task);
    return ANSWERED;
}

static enum verdict wrong_cdb(struct out *out, uint16_t byte, int bit)
{
    (void)sense_invalid_field_in_cdb(out->task, byte, bit);
    return ANSWERED;
}

static bool registered(const struct out *out)
{
    return out->self != NO_INDEX;
}

/* Every action but the two that register needs the nexus's own key (table 60). */
static bool key_fits(const struct out *out)
{
    return registered(out) && out->draft->registrants[out->self].key == out->key;
}

static bool holds(const struct out *out)
{
    return registered(out) &&
           (reservation_of_all(out->draft->type) || out->draft->holder == out->self);
}

/* ---- changing the draft ---- */

static void tell_of_release(struct out *out)
{
    out->draft->release_count++;
    record_nexus_set(&out->draft->release_by, out->task->nexus);
}

static void end_reservation(struct record *draft)
{
    draft->type = RESERVATION_NONE;
    draft->holder = RECORD_NO_HOLDER;
}

static void take_reservation(struct out *out)
{
    out->draft->type = out->type;
    out->draft->holder = reservation_of_all(out->type) ? RECORD_NO_HOLDER : (uint16_t)out->self;
}

/* The registration goes; so does a reservation that nobody holds any more (5.13.11.2.3). */
static void remove_registrant(struct out *out, uint32_t index)
{
    struct record *draft = out->draft;

    CHECK(index < draft->registrant_count);
    if (draft->holder == index || draft->registrant_count == 1)
        end_reservation(draft);
    draft->registrant_count--;
    memmove(&draft->registrants[index], &draft->registrants[index + 1],
            (draft->registrant_count - index) * sizeof draft->registrants[0]);
    if (draft->holder != RECORD_NO_HOLDER && draft->holder > index)
        draft->holder--;
    if (out->self == index)
        out->self = NO_INDEX;
    else if (registered(out) && out->self > index)
        out->self--;
}

/* Gives `index`; NO_INDEX when there is no room: the task is answered then. */
static uint32_t add_registrant(struct out *out, uint16_t port, const char *initiator, uint64_t key)
{
    struct record *draft = out->draft;
    uint32_t index = draft->registrant_count;

    if (index < RECORD_REGISTRANT_LIMIT) {
        struct record_registrant *registrant = &draft->registrants[index];
        memset(registrant, 0, sizeof *registrant);
        registrant->nexus.port = port;
        memcpy(registrant->nexus.initiator, initiator, strlen(initiator) + 1);
        registrant->key = key;
        draft->registrant_count++;
        if (record_has_room(draft))
            return index;
    }
    (void)sense_registration_resources(out->task);
    return NO_INDEX;
}

/* ---- TransportID ---- */

/* The initiator port in the TransportID at `at`; *size: its bytes. ANSWERED when it is none. */
static enum verdict transport_id(struct out *out, uint32_t at, char name[SCSI_PORT_NAME_SIZE],
                                 uint32_t *size)
{
    const uint8_t *bytes = out->list + at;
    uint32_t left = out->list_bytes - at;
    uint32_t additional;

    if (left < TRANSPORT_HEAD)
        return wrong_length(out);
    if ((bytes[0] & 0x0F) != PROTOCOL_ISCSI)
        return wrong_list(out, at, 3);
    /* Without an ISID (format 00b) it names a device; a reservation belongs to a port. */
    if (bytes[0] >> 6 != FORMAT_PORT)
        return wrong_list(out, at, 7);
    additional = get_u16(bytes + 2);
    if (additional < TRANSPORT_LEAST || additional % 4 != 0)
        return wrong_list(out, at + 2, -1);
    if (additional > left - TRANSPORT_HEAD)
        return wrong_length(out);
    if (memchr(bytes + TRANSPORT_HEAD, 0, additional) == NULL ||
        !record_port_name(name, (const char *)bytes + TRANSPORT_HEAD, additional))
        return wrong_list(out, at + TRANSPORT_HEAD, -1);
    *size = TRANSPORT_HEAD + additional;
    return UNCHANGED;
}

/* ---- REGISTER, REGISTER AND IGNORE EXISTING KEY (5.13.7, table 61) ---- */

static uint16_t other_port(const struct out *out)
{
    return out->task->nexus->port == SCSI_PORT_A ? SCSI_PORT_B : SCSI_PORT_A;
}

/* A port that has no registration yet gets one; one that has keeps it. False: answered. */
static bool register_port(struct out *out, uint16_t port, const char *initiator)
{
    if (reservation_find(out->draft, port, initiator) < out->draft->registrant_count)
        return true;
    return add_registrant(out, port, initiator, out->service_key) != NO_INDEX;
}

/* SPEC_I_PT: the initiator ports that the list names, on this target port or on both. */
static enum verdict register_listed(struct out *out, bool both_ports)
{
    uint32_t at = AT_PORT_LIST + 4;

    while (at < out->list_bytes) {
        char name[SCSI_PORT_NAME_SIZE];
        uint32_t size = 0;
        enum verdict verdict = transport_id(out, at, name, &size);
        if (verdict == ANSWERED)
            return verdict;
        if (!register_port(out, out->task->nexus->port, name) ||
            (both_ports && !register_port(out, other_port(out), name)))
            return ANSWERED;
        at += size;
    }
    return CHANGED;
}

/* The registration of this initiator port on one target port gets another key, or goes. */
static void change_registration(struct out *out, uint32_t index)
{
    struct record *draft = out->draft;
    bool held = draft->holder == index;
    uint8_t type = draft->type;

    if (out->service_key != 0) {
        draft->registrants[index].key = out->service_key;
        return;
    }
    remove_registrant(out, index);
    /* 5.13.11.2.3: the others could use it and now cannot rely on it. */
    if (held && reservation_of_registrants(type))
        tell_of_release(out);
}

/* ALL_TG_PT: as if the same had come in through the other target port too (6.16.3). */
static enum verdict change_other_port(struct out *out, bool ignore_key)
{
    const struct scsi_nexus *nexus = out->task->nexus;
    uint32_t index = reservation_find(out->draft, other_port(out), nexus->name);

    if (index == out->draft->registrant_count) {
        if (out->service_key != 0 && !register_port(out, other_port(out), nexus->name))
            return ANSWERED;
        return CHANGED;
    }
    if (!ignore_key && out->draft->registrants[index].key != out->key)
        return conflict(out);
    change_registration(out, index);
    return CHANGED;
}

static enum verdict register_new(struct out *out, bool ignore_key, bool both_ports, bool listed)
{
    const struct scsi_nexus *nexus = out->task->nexus;

    if (!register_port(out, nexus->port, nexus->name))
        return ANSWERED;
    if (both_ports && change_other_port(out, ignore_key) == ANSWERED)
        return ANSWERED;
    return listed ? register_listed(out, both_ports) : CHANGED;
}

static enum verdict act_register(struct out *out)
{
    bool ignore_key = out->action == REGISTER_AND_IGNORE_EXISTING_KEY;
    uint8_t flags = out->list[AT_FLAGS];
    bool listed = flags & SPEC_I_PT;
    bool both_ports = flags & ALL_TG_PT;
    enum verdict verdict;

    if (listed && (out->list_bytes < AT_PORT_LIST + 4 ||
                   get_u32(out->list + AT_PORT_LIST) != out->list_bytes - AT_PORT_LIST - 4))
        return wrong_length(out);
    if (!registered(out)) {
        if (!ignore_key && out->key != 0)
            return conflict(out);
        if (out->service_key == 0)
            return UNCHANGED;
        verdict = register_new(out, ignore_key, both_ports, listed);
    } else {
        if (!ignore_key && !key_fits(out))
            return conflict(out);
        if (listed)
            return wrong_list(out, AT_FLAGS, 3);
        change_registration(out, out->self);
        verdict = both_ports ? change_other_port(out, ignore_key) : CHANGED;
    }
    if (verdict == CHANGED) {
        out->draft->aptpl = flags & APTPL;
        out->draft->generation++;
    }
    return verdict;
}

/* ---- RESERVE, RELEASE, CLEAR ---- */

static enum verdict act_reserve(struct out *out)
{
    if (!key_fits(out))
        return conflict(out);
    if (out->scope != 0)
        return wrong_cdb(out, 2, 7);
    if (!reservation_type_known(out->type))
        return wrong_cdb(out, 2, 3);
    if (out->draft->type != RESERVATION_NONE)
        return holds(out) && out->draft->type == out->type ? UNCHANGED : conflict(out);
    take_reservation(out);
    return CHANGED;
}

static enum verdict act_release(struct out *out)
{
    uint8_t type = out->draft->type;

    if (!key_fits(out))
        return conflict(out);
    if (type == RESERVATION_NONE || !holds(out))
        return UNCHANGED;
    if (out->scope != 0 || out->type != type) {
        (void)sense_invalid_release(out->task);
        return ANSWERED;
    }
    end_reservation(out->draft);
    if (reservation_of_registrants(type))
        tell_of_release(out);
    return CHANGED;
}

static enum verdict act_clear(struct out *out)
{
    if (!key_fits(out))
        return conflict(out);
    end_reservation(out->draft);
    out->draft->registrant_count = 0;
    out->draft->clear_count++;
    record_nexus_set(&out->draft->clear_by, out->task->nexus);
    out->draft->generation++;
    return CHANGED;
}

/* ---- PREEMPT, PREEMPT AND ABORT (5.13.11.2, 5.13.11.3) ---- */

/* Removes the registrations with the service action key, or all when that is zero; this nexus's own
 * stays when `but_own`. Returns how many went. */
static uint32_t remove_matching(struct out *out, bool but_own)
{
    uint32_t removed = 0;
    uint32_t index = 0;

    while (index < out->draft->registrant_count) {
        bool matches =
            out->service_key == 0 || out->draft->registrants[index].key == out->service_key;
        if (matches && !(but_own && index == out->self)) {
            remove_registrant(out, index);
            removed++;
        } else {
            index++;
        }
    }
    return removed;
}

/* The reservation changes hands too: this nexus has it afterwards, as the CDB says. */
static enum verdict preempt_reservation(struct out *out)
{
    uint8_t old_type = out->draft->type;

    if (out->scope != 0)
        return wrong_cdb(out, 2, 7);
    if (!reservation_type_known(out->type))
        return wrong_cdb(out, 2, 3);
    (void)remove_matching(out, true);
    take_reservation(out);
    if (old_type != out->type)
        tell_of_release(out);
    return CHANGED;
}

static enum verdict act_preempt(struct out *out)
{
    struct record *draft = out->draft;
    enum verdict verdict = CHANGED;

    if (!key_fits(out))
        return conflict(out);
    if (reservation_of_all(draft->type)
            ? out->service_key == 0
            : draft->type != RESERVATION_NONE &&
                  draft->registrants[draft->holder].key == out->service_key)
        verdict = preempt_reservation(out);
    else if (out->service_key == 0)
        return wrong_list(out, AT_SERVICE_KEY, -1);
    else if (remove_matching(out, false) == 0)
        return conflict(out);
    if (verdict == ANSWERED)
        return verdict;
    draft->preempt_count++;
    record_nexus_set(&draft->preempt_by, out->task->nexus);
    draft->generation++;
    if (out->action == PREEMPT)
        return CHANGED;
    draft->abort_count++;
    return CHANGED_WITH_BARRIER;
}

/* ---- REGISTER AND MOVE (5.13.8, table 62) ---- */

static enum verdict act_move(struct out *out)
{
    struct record *draft = out->draft;
    const struct scsi_nexus *nexus = out->task->nexus;
    uint16_t port = get_u16(out->list + AT_MOVE_PORT);
    uint8_t flags = out->list[AT_MOVE_FLAGS];
    char name[SCSI_PORT_NAME_SIZE];
    uint32_t size = 0;
    uint32_t index;

    if (get_u32(out->list + AT_MOVE_LENGTH) != out->list_bytes - BASIC_BYTES)
        return wrong_length(out);
    if (!key_fits(out))
        return conflict(out);
    if (draft->type == RESERVATION_NONE)
        return wrong_cdb(out, 1, 4);
    if (reservation_of_all(draft->type) || !holds(out))
        return conflict(out);
    if (out->service_key == 0)
        return wrong_list(out, AT_SERVICE_KEY, -1);
    if (port != SCSI_PORT_A && port != SCSI_PORT_B)
        return wrong_list(out, AT_MOVE_PORT, -1);
    if (transport_id(out, BASIC_BYTES, name, &size) == ANSWERED)
        return ANSWERED;
    if (BASIC_BYTES + size != out->list_bytes)
        return wrong_length(out);
    if (port == nexus->port && strcmp(name, nexus->name) == 0)
        return wrong_list(out, BASIC_BYTES, -1);
    index = reservation_find(draft, port, name);
    if (index < draft->registrant_count)
        draft->registrants[index].key = out->service_key;
    else
        index = add_registrant(out, port, name, out->service_key);
    if (index == NO_INDEX)
        return ANSWERED;
    draft->holder = (uint16_t)index;
    if (flags & UNREG)
        remove_registrant(out, out->self);
    draft->aptpl = flags & APTPL;
    draft->generation++;
    return CHANGED;
}

/* ---- the command ---- */

enum scsi_step reservation_out_begin(struct scsi_task *task)
{
    uint8_t action = task->cdb[1] & 0x1F;
    uint32_t list_bytes = get_u32(task->cdb + 5);
    bool variable = action == REGISTER || action == REGISTER_AND_MOVE;

    if (list_bytes < BASIC_BYTES || list_bytes > LIST_LIMIT ||
        (!variable && list_bytes != BASIC_BYTES) || list_bytes > task->expected_out_bytes)
        return sense_list_length(task);
    return task_buffer_out(task, list_bytes, list_bytes + VOLUME_STATE_BYTES);
}

static enum verdict judge(struct out *out)
{
    bool listed = out->action != REGISTER_AND_MOVE && (out->list[AT_FLAGS] & SPEC_I_PT);

    /* SPC-2 5.5.1: under RESERVE(6)/(10) everybody is refused, the holder too. */
    if (reservation_of_spc2(out->task->unit))
        return conflict(out);
    out->draft->reserved_by.port = 0; /* whoever had it has left */
    if (listed && out->action != REGISTER)
        return wrong_list(out, AT_FLAGS, 3);
    if (!listed && out->action == REGISTER && out->list_bytes != BASIC_BYTES)
        return wrong_length(out);
    switch (out->action) {
    case REGISTER:
    case REGISTER_AND_IGNORE_EXISTING_KEY:
        return act_register(out);
    case RESERVE:
        return act_reserve(out);
    case RELEASE:
        return act_release(out);
    case CLEAR:
        return act_clear(out);
    case PREEMPT:
    case PREEMPT_AND_ABORT:
        return act_preempt(out);
    case REGISTER_AND_MOVE:
        return act_move(out);
    default:
        return wrong_cdb(out, 1, 4);
    }
}

enum scsi_step reservation_out_run(struct scsi_task *task)
{
    struct record *draft = &task->scsi->draft;
    struct out out = {
        .task = task,
        .list = task->buffer,
        .list_bytes = task->out_bytes,
        .action = task->cdb[1] & 0x1F,
        .type = task->cdb[2] & 0x0F,
        .scope = task->cdb[2] >> 4,
        .key = get_u64(task->buffer + AT_KEY),
        .service_key = get_u64(task->buffer + AT_SERVICE_KEY),
        .draft = draft,
    };
    enum verdict verdict;

    *draft = task->unit->record;
    out.self = reservation_find(draft, task->nexus->port, task->nexus->name);
    if (out.self == draft->registrant_count)
        out.self = NO_INDEX;
    verdict = judge(&out);
    if (verdict == ANSWERED)
        return SCSI_DONE;
    if (verdict == UNCHANGED)
        return task_good(task);
    /* Its own change must not end the task that makes it. */
    task->exempt = verdict == CHANGED_WITH_BARRIER;
    return task_record(task, draft, verdict == CHANGED_WITH_BARRIER ? HOST_BARRIER : 0);
}

enum scsi_step reservation_out_done(struct scsi_task *task, enum host_result result,
                                    uint64_t detail)
{
    if (result == HOST_STALE && task_may_retry(task))
        return reservation_out_run(task);
    return result == HOST_OK ? task_good(task) : task_host_error(task, result);
}
