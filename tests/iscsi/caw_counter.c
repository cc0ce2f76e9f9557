/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Several initiators increment one counter with COMPARE AND WRITE, each through the path that is
 * its own until that fails; then it goes to the other one. The counter's block also holds, for each
 * initiator, the number of its last increment, so one whose answer was lost can tell whether its
 * increment was made. In the end the counter must be the sum of all increments: a lower one was
 * lost, a higher one was made twice.
 *
 *     caw-counter BLOCK_BYTES INCREMENTS URL_A URL_B [INITIATORS]
 *
 * Prints `at N` after each increment of the first initiator and, in the end, one line:
 * counter, expected, miscompares, path changes. Exit status 1 when the two differ. It is a single
 * thread: what is under way at the same time are the initiators' commands, one each. */

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    INITIATORS = 8,
    BLOCK_LIMIT = 4096,
    LBA = 3,
    ANSWER_MS = 3000, /* without an answer, then the other path is tried */
    GIVE_UP_MS = 20000,
    LOGIN_SECONDS = 3,
};

enum phase { PHASE_READ, PHASE_SWAP, PHASE_DONE };

/* The counter's block: big-endian 64-bit numbers, the counter, then one for each initiator. */
struct initiator {
    int number;
    char name[64];
    struct iscsi_context *iscsi;
    struct iscsi_url *url;
    int path;
    enum phase phase;
    bool under_way, failed; /* failed: the path must be changed */
    uint64_t sent_ms, progress_ms;
    uint64_t made; /* increments known to be made */
    uint8_t block[BLOCK_LIMIT], swap[2 * BLOCK_LIMIT];
    struct scsi_task *task;
};

static struct initiator initiators[INITIATORS];
static int initiator_count = 2;
static uint32_t block_bytes;
static uint64_t increments, miscompares, path_changes;
static const char *urls[2];

_Noreturn static void give_up(const char *what, const char *why)
{
    fprintf(stderr, "caw-counter: %s: %s\n", what, why);
    exit(2);
}

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static uint64_t get_number(const uint8_t *block, int place)
{
    uint64_t value = 0;

    for (int i = 0; i < 8; i++)
        value = value << 8 | block[8 * place + i];
    return value;
}

static void put_number(uint8_t *block, int place, uint64_t value)
{
    for (int i = 7; i >= 0; i--, value >>= 8)
        block[8 * place + i] = (uint8_t)value;
}

static void log_in(struct initiator *initiator)
{
    initiator->failed = true; /* until it is in */
    initiator->iscsi = iscsi_create_context(initiator->name);
    if (initiator->iscsi == NULL)
        give_up("no libiscsi context", initiator->name);
    initiator->url = iscsi_parse_full_url(initiator->iscsi, urls[initiator->path]);
    if (initiator->url == NULL)
        give_up("not a URL", urls[initiator->path]);
    iscsi_set_session_type(initiator->iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_noautoreconnect(initiator->iscsi, 1);
    iscsi_set_timeout(initiator->iscsi, LOGIN_SECONDS);
    iscsi_set_targetname(initiator->iscsi, initiator->url->target);
    if (iscsi_connect_sync(initiator->iscsi, initiator->url->portal) == 0 &&
        iscsi_login_sync(initiator->iscsi) == 0) {
        initiator->failed = false;
        iscsi_set_timeout(initiator->iscsi, 0);
    }
}

static void leave(struct initiator *initiator)
{
    iscsi_destroy_context(initiator->iscsi);
    iscsi_destroy_url(initiator->url);
    initiator->iscsi = NULL;
    initiator->under_way = false;
    initiator->phase = PHASE_READ; /* look whether the last one was made */
}

/* After a READ: has the increment that had no answer been made? Then form the next one. */
static void prepare_swap(struct initiator *initiator)
{
    int own = 1 + initiator->number;
    uint64_t found = get_number(initiator->block, own);

    if (found != initiator->made && found != initiator->made + 1)
        give_up("an increment that nobody made, or a lost one", initiator->name);
    if (found > initiator->made) {
        initiator->made = found;
        initiator->progress_ms = now_ms();
    }
    initiator->phase = initiator->made == increments ? PHASE_DONE : PHASE_SWAP;
    memcpy(initiator->swap, initiator->block, block_bytes);
    memcpy(initiator->swap + block_bytes, initiator->block, block_bytes);
    put_number(initiator->swap + block_bytes, 0, get_number(initiator->block, 0) + 1);
    put_number(initiator->swap + block_bytes, own, initiator->made + 1);
}

static void on_swapped(struct initiator *initiator, int status)
{
    const struct scsi_task *task = initiator->task;

    if (status == SCSI_STATUS_GOOD) {
        initiator->made++;
        initiator->progress_ms = now_ms();
        if (initiator->number == 0)
            printf("at %llu\n", (unsigned long long)initiator->made);
    } else if (status == SCSI_STATUS_CHECK_CONDITION && task->sense.key == SCSI_SENSE_MISCOMPARE) {
        miscompares++;
    }
    initiator->phase = PHASE_READ;
}

static void on_answer(struct iscsi_context *iscsi, int status, void *data, void *private_data)
{
    struct initiator *initiator = private_data;
    struct scsi_task *task = initiator->task;

    initiator->under_way = false;
    if (status == SCSI_STATUS_CHECK_CONDITION && task->sense.key != SCSI_SENSE_UNIT_ATTENTION &&
        task->sense.key != SCSI_SENSE_MISCOMPARE) {
        initiator->failed = true; /* NOT READY: this path is not one for now */
    } else if (status == SCSI_STATUS_CANCELLED || status == SCSI_STATUS_ERROR) {
        initiator->failed = true;
    } else if (initiator->phase == PHASE_SWAP) {
        on_swapped(initiator, status);
    } else if (status == SCSI_STATUS_GOOD) {
        if ((uint32_t)task->datain.size != block_bytes)
            give_up("a READ was short", initiator->name);
        memcpy(initiator->block, task->datain.data, block_bytes);
        prepare_swap(initiator);
    }
    /* BUSY, TASK SET FULL and a unit attention: the same again. */
    scsi_free_scsi_task(task);
    initiator->task = NULL;
}

static void send_next(struct initiator *initiator)
{
    initiator->sent_ms = now_ms();
    if (initiator->phase == PHASE_READ)
        initiator->task = iscsi_read16_task(initiator->iscsi, initiator->url->lun, LBA, block_bytes,
                                            (int)block_bytes, 0, 0, 0, 0, 0, on_answer, initiator);
    else
        initiator->task = iscsi_compareandwrite_task(
            initiator->iscsi, initiator->url->lun, LBA, initiator->swap, 2 * block_bytes,
            (int)block_bytes, 0, 0, 0, 0, 0, on_answer, initiator);
    initiator->under_way = initiator->task != NULL;
    initiator->failed = initiator->task == NULL;
}

static void step(struct initiator *initiator)
{
    uint64_t now = now_ms();

    if (initiator->under_way && now - initiator->sent_ms > ANSWER_MS)
        initiator->failed = true;
    if (initiator->failed) {
        if (initiator->iscsi != NULL)
            leave(initiator);
        if (now - initiator->progress_ms > GIVE_UP_MS)
            give_up("no path took a command for 20 s", initiator->name);
        initiator->path = !initiator->path;
        path_changes++;
        log_in(initiator);
        if (initiator->failed)
            poll(NULL, 0, 20);
    } else if (!initiator->under_way && initiator->phase != PHASE_DONE) {
        send_next(initiator);
    }
}

/* One turn of the loop; false when all are done. */
static bool turn(void)
{
    struct pollfd wait[INITIATORS];
    bool any = false;

    for (int i = 0; i < initiator_count; i++) {
        struct initiator *initiator = &initiators[i];

        if (initiator->phase != PHASE_DONE)
            step(initiator);
        any = any || initiator->phase != PHASE_DONE;
        wait[i] = (struct pollfd){.fd = initiator->failed ? -1 : iscsi_get_fd(initiator->iscsi)};
        if (!initiator->failed)
            wait[i].events = (short)iscsi_which_events(initiator->iscsi);
    }
    poll(wait, (nfds_t)initiator_count, 100);
    for (int i = 0; i < initiator_count; i++)
        if (wait[i].fd >= 0 && wait[i].revents != 0 &&
            iscsi_service(initiators[i].iscsi, wait[i].revents) != 0 &&
            initiators[i].phase != PHASE_DONE)
            initiators[i].failed = true;
    return any;
}

static int judge(void)
{
    uint64_t expected = increments * (uint64_t)initiator_count;
    uint64_t highest = 0;

    /* The one that was done last has read the block after its own last increment. */
    for (int i = 0; i < initiator_count; i++) {
        uint64_t seen = get_number(initiators[i].block, 0);

        if (seen > highest)
            highest = seen;
    }
    printf("counter %llu expected %llu miscompares %llu path_changes %llu\n",
           (unsigned long long)highest, (unsigned long long)expected,
           (unsigned long long)miscompares, (unsigned long long)path_changes);
    return highest == expected ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc < 5 || argc > 6) {
        fprintf(stderr, "usage: %s BLOCK_BYTES INCREMENTS URL_A URL_B [INITIATORS]\n", argv[0]);
        return 2;
    }
    block_bytes = (uint32_t)strtoul(argv[1], NULL, 10);
    increments = strtoull(argv[2], NULL, 10);
    urls[0] = argv[3];
    urls[1] = argv[4];
    if (argc == 6)
        initiator_count = atoi(argv[5]);
    if (block_bytes < 512 || block_bytes > BLOCK_LIMIT || initiator_count < 1 ||
        initiator_count > INITIATORS)
        give_up("out of range", "BLOCK_BYTES from 512 to 4096, INITIATORS from 1 to 8");
    setvbuf(stdout, NULL, _IOLBF, 4096);
    signal(SIGPIPE, SIG_IGN); /* a session that ends is an answer, not the end of us */
    for (int i = 0; i < initiator_count; i++) {
        struct initiator *initiator = &initiators[i];

        *initiator = (struct initiator){.number = i, .path = i % 2, .progress_ms = now_ms()};
        snprintf(initiator->name, sizeof(initiator->name), "iqn.2026-11.test:counter-%d", i);
        log_in(initiator);
    }
    while (turn())
        ;
    for (int i = 0; i < initiator_count; i++)
        leave(&initiators[i]);
    return judge();
}
