/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Text requests in the full-feature phase (RFC 7143 6.2, 11.10, appendix C): SendTargets, and
 * MaxRecvDataSegmentLength. A request may come in parts, an answer may go out in parts; one
 * exchange at a time. The list of targets is written anew for each part, so that an answer of any
 * length needs no memory. */

#include "front/iscsi_target_inner.h"

/* What the exchange waits for with text_ttt. */
enum text_step {
    TEXT_NONE,
    TEXT_GATHERING, /* text_used bytes of the request are in `text` */
    TEXT_ANSWERING, /* text_used bytes of answers are in `text`, the list of targets follows them;
                       text_at bytes were sent */
    TEXT_OPEN,      /* the host has more to negotiate */
};

enum { ANSWER_LIMIT = 4096, OWN_ANSWERS = 1024 };

_Static_assert((int)ANSWER_LIMIT < (int)ANSWER_ROOM, "a part fits the output");
_Static_assert((int)OWN_ANSWERS <= (int)ISCSI_TARGET_TEXT_SIZE, "answers are kept where it was");

/* A writer that drops what was sent already, and stops at its end. */
struct part {
    uint8_t *to;
    uint32_t skip, room, used;
    bool cut; /* there is more than fits */
};

static void part_put(struct part *part, const void *bytes, size_t size)
{
    const uint8_t *from = bytes;
    size_t skip = min_u64(part->skip, size), take;

    part->skip -= (uint32_t)skip;
    from += skip;
    size -= skip;
    take = min_u64(size, part->room - part->used);
    if (take < size)
        part->cut = true;
    if (take > 0)
        memcpy(part->to + part->used, from, take);
    part->used += (uint32_t)take;
}

static void part_text(struct part *part, const char *text)
{
    part_put(part, text, strlen(text));
}

static void part_targets(const struct iscsi_target *target, struct part *part)
{
    for (uint32_t i = 0; i < target->node_count; i++) {
        const struct iscsi_target_node *node = &target->nodes[i];

        if (!target->text_all && strcmp(node->name, target->text_target) != 0)
            continue;
        part_text(part, "TargetName=");
        part_put(part, node->name, strlen(node->name) + 1);
        for (uint32_t p = 0; p < node->portal_count; p++) {
            char digits[6];
            unsigned at = sizeof digits - 1;
            uint32_t group = node->portals[p].group;

            digits[at] = '\0';
            do {
                digits[--at] = (char)('0' + group % 10);
                group /= 10;
            } while (group > 0);
            part_text(part, "TargetAddress=");
            part_text(part, node->portals[p].address);
            part_text(part, ",");
            part_put(part, digits + at, sizeof digits - at);
        }
    }
}

/* The next part of the answer. */
static void answer_part(struct iscsi_target *target)
{
    uint8_t bytes[ANSWER_LIMIT];
    struct part part = {.to = bytes,
                        .skip = target->text_at,
                        .room = min_u32(ANSWER_LIMIT, target->params.peer_data_limit_bytes)};
    const bool open = target->text_step == TEXT_OPEN;
    struct iscsi_pdu pdu = target_answer(target, ISCSI_TEXT_RESPONSE, target->text_itt);

    part_put(&part, target->text, target->text_used);
    if (target->text_all || *target->text_target)
        part_targets(target, &part);
    target->text_at += part.used;
    if (part.cut || open)
        target->text_ttt = target_next_tag(target);
    else
        target->text_ttt = ISCSI_NO_TAG;
    target->text_step = part.cut ? TEXT_ANSWERING : open ? TEXT_OPEN : TEXT_NONE;
    pdu.final = !part.cut && !open;
    pdu.text.continues = part.cut;
    pdu.ttt = target->text_ttt;
    pdu.data_size = part.used;
    target->stat_sn++;
    target_put(target, &pdu, bytes);
}

static void reject_text(struct iscsi_target *target, uint8_t reason)
{
    target->text_step = TEXT_NONE;
    target->text_ttt = ISCSI_NO_TAG;
    target_reject(target, reason);
}

/* RFC 7143 appendix C: All in a discovery session only; nothing names the target of a normal one,
 * and there only that one may be named. */
static void send_targets(struct iscsi_target *target, const char *value, struct iscsi_text *out)
{
    const char *own = target->discovery ? NULL : target->target_name;

    target->text_all = false;
    *target->text_target = '\0';
    if (strcmp(value, "All") == 0 && target->discovery)
        target->text_all = true;
    else if (*value == '\0' && own)
        memcpy(target->text_target, own, strlen(own) + 1);
    else if (*value == '\0' || strcmp(value, "All") == 0)
        iscsi_text_put(out, "SendTargets", "Reject");
    else if (strlen(value) < sizeof target->text_target && (!own || strcmp(own, value) == 0))
        memcpy(target->text_target, value, strlen(value) + 1);
}

/* The whole request: answers to `text`. */
static bool take_text(struct iscsi_target *target, const uint8_t *text, uint32_t size)
{
    struct iscsi_negotiation negotiation;
    struct iscsi_text out;
    struct iscsi_pair pair;
    enum iscsi_pair_result result;
    char answers[OWN_ANSWERS];
    uint32_t at = 0;
    const char *why;

    iscsi_negotiation_start(&negotiation, ISCSI_TARGET, &target->params);
    negotiation.agreed = target->params;
    iscsi_text_start(&out, answers, sizeof answers);
    target->text_all = false;
    *target->text_target = '\0';
    /* Each pair takes at least three bytes, so this ends. */
    while ((result = iscsi_pair_next(text, size, &at, &pair)) == ISCSI_PAIR_OK) {
        if (strcmp(pair.key, "SendTargets") == 0)
            send_targets(target, pair.value, &out);
        else if (strcmp(pair.key, "InitiatorAlias") != 0) /* declared, and of no use here */
            iscsi_negotiation_on_text(&negotiation, &pair, &out, &why);
    }
    if (result == ISCSI_PAIR_MALFORMED || out.overflow)
        return false;
    target->params.peer_data_limit_bytes = negotiation.agreed.peer_data_limit_bytes;
    memcpy(target->text, answers, out.used);
    target->text_used = out.used;
    target->text_at = 0;
    return true;
}

/* The first part of a request, or the next; false when it is too long. */
static bool gather(struct iscsi_target *target)
{
    const struct iscsi_receiver *receiver = &target->receiver;

    if (receiver->kept_size < receiver->pdu.data_size ||
        receiver->pdu.data_size > sizeof target->text - target->text_used)
        return false;
    if (receiver->pdu.data_size > 0)
        memcpy(target->text + target->text_used, receiver->data, receiver->pdu.data_size);
    target->text_used += receiver->pdu.data_size;
    return true;
}

/* More of the request is to come: ask for it with an empty answer. */
static void ask_for_more(struct iscsi_target *target)
{
    struct iscsi_pdu pdu = target_answer(target, ISCSI_TEXT_RESPONSE, target->text_itt);

    target->text_step = TEXT_GATHERING;
    target->text_ttt = target_next_tag(target);
    pdu.final = false;
    pdu.ttt = target->text_ttt;
    target->stat_sn++;
    target_put(target, &pdu, NULL);
}

enum iscsi_target_event text_on_request(struct iscsi_target *target)
{
    const struct iscsi_pdu *pdu = &target->receiver.pdu;
    enum order order = task_order(target, pdu);

    if (order == ORDER_IGNORE) {
        target->ignored_count++;
        return ISCSI_TARGET_MORE;
    }
    task_order_take(target, pdu, order);
    if (pdu->itt == ISCSI_NO_TAG || (pdu->text.continues && pdu->final)) {
        reject_text(target, ISCSI_REJECT_PROTOCOL);
        return ISCSI_TARGET_MORE;
    }
    if (pdu->ttt == ISCSI_NO_TAG) {
        target->text_step = TEXT_NONE; /* a new exchange ends the last one */
        target->text_itt = pdu->itt;
        target->text_used = 0;
    } else if (target->text_step == TEXT_NONE || pdu->ttt != target->text_ttt ||
               pdu->itt != target->text_itt) {
        reject_text(target, ISCSI_REJECT_INVALID_FIELD);
        return ISCSI_TARGET_MORE;
    } else if (target->text_step == TEXT_ANSWERING) {
        if (pdu->data_size > 0)
            reject_text(target, ISCSI_REJECT_PROTOCOL);
        else
            answer_part(target);
        return ISCSI_TARGET_MORE;
    } else if (target->text_step == TEXT_OPEN) {
        target->text_used = 0;
    }
    if (!gather(target)) {
        reject_text(target, ISCSI_REJECT_OUT_OF_RESOURCES);
        return ISCSI_TARGET_MORE;
    }
    if (pdu->text.continues) {
        ask_for_more(target);
        return ISCSI_TARGET_MORE;
    }
    target->text_step = pdu->final ? TEXT_NONE : TEXT_OPEN;
    if (take_text(target, target->text, target->text_used))
        answer_part(target);
    else
        reject_text(target, ISCSI_REJECT_INVALID_FIELD);
    return ISCSI_TARGET_MORE;
}
