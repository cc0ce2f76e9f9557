/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A second array for the end-to-end tests: the real listener, sessions, TLS and receiver, one
 * controller, and files for what is promoted, which a test reads when this program has ended. What
 * is held and not promoted is in memory only, and gone then, as in a failover.
 *
 *     copy-second CONFIG DIRECTORY        one [group] in CONFIG has role = receive
 *
 * It writes DIRECTORY/N.img for the volume at place N, and ends with SIGTERM. */

#include "copy/receiver.h"
#include "shell/copy_server.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { ROOM = 16384, WAITING = 2 * COPY_COMMANDS };

static struct config config;
static struct config_errors errors;
static struct copy_server server;
static struct loop loop;
static struct receiver receiver;
static uint64_t page_counts[VOLUME_LIMIT];
static uint8_t *visible[VOLUME_LIMIT], *frames;
static uint32_t free_slots[ROOM], free_count;
static struct wait {
    uint32_t handle, length;
    const uint8_t *bytes;
} waiting[WAITING];
static uint32_t waiting_count;
static const char *directory;

static void show(const struct receiver_popped *popped)
{
    uint8_t *page = visible[popped->volume] + popped->page * PAGE_SIZE_BYTES;
    uint8_t taken = 0, sectors = popped->sectors;
    if (popped->slot == NO_INDEX) {
        memset(page, 0, popped->count * PAGE_SIZE_BYTES);
        return;
    }
    for (uint32_t slot = popped->slot; slot != NO_INDEX;) {
        const uint8_t *frame = frames + (size_t)slot * PAGE_SIZE_BYTES;
        for (int s = 0; s < PAGE_SECTORS && !popped->discard; s++)
            if (sectors & ~taken & 1 << s)
                memcpy(page + s * SECTOR_SIZE, frame + s * SECTOR_SIZE, SECTOR_SIZE);
        taken |= sectors;
        free_slots[free_count++] = slot;
        slot = receiver_older(&receiver, &sectors);
    }
}

static void drain(void)
{
    struct receiver_popped popped;
    while (receiver_pop(&receiver, &popped))
        show(&popped);
}

/* DIRECTORY/state: the cycle that the images show, and whether it is a state of the first site. */
static void tell(void)
{
    char path[512], text[64];
    snprintf(path, sizeof path, "%s/state", directory);
    int length = snprintf(text, sizeof text, "%llu %s\n", (unsigned long long)receiver.promoted,
                          receiver.consistent ? "consistent" : "not consistent");
    int descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    CHECK(descriptor >= 0);
    CHECK(write(descriptor, text, (size_t)length) == length);
    close(descriptor);
}

static void take_page(const struct copy_head *head, const struct record *record,
                      const uint8_t *data)
{
    if (receiver_holds(&receiver, head->cycle, record))
        return;
    CHECK(free_count > 0);
    uint32_t slot = free_slots[--free_count];
    for (int s = 0; s < PAGE_SECTORS; s++)
        if (record->sectors & 1 << s) {
            memcpy(frames + (size_t)slot * PAGE_SIZE_BYTES + s * SECTOR_SIZE, data, SECTOR_SIZE);
            data += SECTOR_SIZE;
        }
    receiver_hold(&receiver, slot, head->cycle, head->wall_us, record);
}

static void take_record(const struct copy_head *head, const struct record *record,
                        const uint8_t *data, struct receiver_counts *counts)
{
    switch (record->type) {
    case RECORD_PAGE:
        *(record->flags & RECORD_BASE ? &counts->base : &counts->pages) += 1;
        take_page(head, record, data);
        break;
    case RECORD_ZERO:
        counts->ranges++;
        receiver_zero(&receiver, head->cycle, head->wall_us, record);
        break;
    case RECORD_END:
        receiver_end(&receiver, head->half, head->cycle, head->wall_us, record);
        break;
    default:
        receiver_promote_begin(&receiver);
        receiver_promote(&receiver, head->cycle, head->wall_us, record->flags & RECORD_CONSISTENT);
        drain();
        tell();
    }
}

/* 1: GOOD; 0: refused; -1: it has to wait. */
static int take(const uint8_t *bytes, uint32_t length)
{
    struct copy_head head;
    struct receiver_counts counts = {0};
    bool new_term = false;
    const uint8_t *records = bytes + COPY_HEAD_SIZE;
    const char *why = record_get_head(bytes, length, &head);
    enum receiver_verdict verdict =
        why ? RECEIVER_REFUSE : receiver_judge(&receiver, &head, &new_term, &why);
    if (verdict == RECEIVER_TAKE &&
        (why = receiver_judge_records(&receiver, &head, new_term, records)) != NULL)
        verdict = RECEIVER_REFUSE;
    if (verdict == RECEIVER_REFUSE)
        fprintf(stderr, "copy-second: refused: %s\n", why);
    if (verdict != RECEIVER_TAKE)
        return verdict == RECEIVER_WAIT ? -1 : verdict == RECEIVER_KNOWN;
    if (new_term) {
        receiver_begin_term(&receiver, head.term, head.first);
        drain();
    }
    receiver_taken(&receiver, head.half, head.number);
    const uint8_t *data = records + head.record_count * COPY_RECORD_SIZE;
    for (uint32_t i = 0; i < head.record_count; i++) {
        struct record record;
        CHECK(!record_get(records + i * COPY_RECORD_SIZE, &record));
        take_record(&head, &record, data, &counts);
        data += record_data_bytes(&record);
    }
    receiver_batch_done(&receiver, head.half, head.number, head.cycle, &counts);
    return 1;
}

static void on_state(void *context, uint32_t group, struct copy_state *state)
{
    receiver_state(&receiver, state);
    state->flags |= COPY_STATE_HERE;
    state->room_pages = ROOM;
    state->window = COPY_WINDOW;
}

static void on_batch(void *context, uint32_t group, int half, uint32_t handle, const uint8_t *bytes,
                     uint32_t length)
{
    int answer = take(bytes, length);
    if (answer >= 0) {
        copy_server_answer(&server, handle, answer);
        return;
    }
    CHECK(waiting_count < WAITING);
    waiting[waiting_count++] = (struct wait){handle, length, bytes};
}

static const struct copy_server_user user = {.state = on_state, .batch = on_batch};

static uint64_t burst(void *context)
{
    for (uint32_t i = 0; i < waiting_count;) {
        int answer = take(waiting[i].bytes, waiting[i].length);
        if (answer < 0) {
            i++;
            continue;
        }
        copy_server_answer(&server, waiting[i].handle, answer);
        waiting[i] = waiting[--waiting_count];
    }
    copy_server_flush(&server);
    return UINT64_MAX;
}

static void make_volumes(const struct config_group *group)
{
    for (uint32_t i = 0; i < group->volume_count; i++) {
        uint64_t size = config.volumes[group->volumes[i].volume].size_bytes;
        char path[512];
        snprintf(path, sizeof path, "%s/%u.img", directory, i);
        page_counts[i] = (size + PAGE_SIZE_BYTES - 1) / PAGE_SIZE_BYTES;
        int descriptor = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        CHECK(descriptor >= 0);
        CHECK(ftruncate(descriptor, (off_t)(page_counts[i] * PAGE_SIZE_BYTES)) == 0);
        visible[i] = mmap(NULL, page_counts[i] * PAGE_SIZE_BYTES, PROT_READ | PROT_WRITE,
                          MAP_SHARED, descriptor, 0);
        CHECK(visible[i] != MAP_FAILED);
        close(descriptor);
    }
}

static void make_receiver(const struct config_group *group)
{
    struct arena measure = arena_over(NULL, 0);
    const uint8_t *id = server.ids[group - config.groups];
    receiver_create(&receiver, &measure, ROOM, ROOM, group->volume_count, page_counts, id, 1);
    void *memory = aligned_alloc(4096, (measure.used + 4095) & ~(size_t)4095);
    CHECK(memory);
    struct arena arena = arena_over(memory, measure.used);
    receiver_create(&receiver, &arena, ROOM, ROOM, group->volume_count, page_counts, id,
                    (uint64_t)getpid());
    receiver.era = 1; /* nothing was ever failed over */
    frames = malloc((size_t)ROOM * PAGE_SIZE_BYTES);
    CHECK(frames);
    for (uint32_t i = 0; i < ROOM; i++)
        free_slots[free_count++] = i;
}

int main(int argc, char **argv)
{
    char why[TRACE_LINE];
    if (argc != 3 || !config_load(argv[1], &config, &errors) || config.group_count == 0) {
        fprintf(stderr, "copy-second: %s\n",
                errors.count ? errors.text[0] : "usage: copy-second CONFIG DIRECTORY");
        return 2;
    }
    const char *wrong = loop_open(&loop, 256, -1);
    if (!wrong)
        wrong = copy_server_start(&server, &loop, &config, 0, &user, NULL, why);
    if (wrong) {
        fprintf(stderr, "copy-second: %s\n", wrong);
        return 1;
    }
    directory = argv[2];
    make_volumes(&config.groups[0]);
    make_receiver(&config.groups[0]);
    loop.burst = burst;
    loop_run(&loop);
    return 0;
}
