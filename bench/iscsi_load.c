/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* An iSCSI host that loads one LUN: reads or writes of one size, random or in order, with a fixed
 * number under way, over one libiscsi session. iscsi-perf only reads; this does both, so that two
 * targets are asked the same by the same code. What it writes is a fill of counters and it compares
 * nothing: it must never be pointed at data that matters.
 *
 * Prints one line of JSON: commands done after the ramp, seconds, IOPS, MB/s, and the latency's
 * percentiles in microseconds. Any status but GOOD (or a unit attention before the start) ends it
 * with exit status 1, so a target that refuses cannot look fast. */

#include "base/check.h"
#include "base/generator.h"

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    DEPTH_LIMIT = 256,
    SIZE_LIMIT = 4 << 20,
    SAMPLES = 1 << 22,    /* later latencies are counted, not kept */
    SILENCE_MS = 20000,   /* without an answer, then it gives up */
    UNIT_ATTENTIONS = 16, /* cleared before the start */
};

struct slot {
    struct load *load;
    struct scsi_iovec iov;
    struct scsi_task *task;
    uint8_t *buffer;
    uint64_t sent_at_ns;
};

struct load {
    struct iscsi_context *iscsi;
    int lun;
    bool writes, random, once;
    uint32_t size_bytes, block_bytes, depth, under_way;
    uint64_t places;   /* so many pieces of size_bytes are used */
    uint64_t next;     /* place of the next command in order */
    uint64_t begin_ns; /* end of the ramp: counting begins */
    uint64_t end_ns;
    uint64_t done, first_done_ns, last_done_ns;
    uint32_t *latency_ns;
    struct generator generator;
    struct slot slots[DEPTH_LIMIT];
};

_Noreturn static void refuse(const char *what, const char *why)
{
    fprintf(stderr, "iscsi-load: %s%s%s\n", what, why ? ": " : "", why ? why : "");
    exit(1);
}

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void send_next(struct slot *slot, uint64_t now);

static void answered(struct iscsi_context *iscsi, int status, void *data, void *private_data)
{
    struct slot *slot = private_data;
    struct load *load = slot->load;
    uint64_t now = now_ns();

    if (status != SCSI_STATUS_GOOD)
        refuse("a command failed", iscsi_get_error(iscsi));
    scsi_free_scsi_task(slot->task);
    slot->task = NULL;
    load->under_way--;
    if (now >= load->begin_ns) {
        if (load->first_done_ns == 0)
            load->first_done_ns = now;
        else {
            if (load->done < SAMPLES)
                load->latency_ns[load->done] = (uint32_t)(now - slot->sent_at_ns);
            load->done++;
        }
        load->last_done_ns = now;
    }
    send_next(slot, now);
}

/* Send the slot's next command, unless the time (or, for `once`, the range) is over. */
static void send_next(struct slot *slot, uint64_t now)
{
    struct load *load = slot->load;
    uint64_t lba;

    if (load->once ? load->next == load->places : now >= load->end_ns)
        return;
    if (load->random)
        lba = generator_below(&load->generator, load->places);
    else
        lba = load->next++ % (load->once ? UINT64_MAX : load->places);
    lba *= load->size_bytes / load->block_bytes;
    slot->iov = (struct scsi_iovec){slot->buffer, load->size_bytes};
    slot->sent_at_ns = now;
    if (load->writes)
        slot->task = iscsi_write16_iov_task(load->iscsi, load->lun, lba, NULL, load->size_bytes,
                                            (int)load->block_bytes, 0, 0, 0, 0, 0, answered, slot,
                                            &slot->iov, 1);
    else
        slot->task = iscsi_read16_iov_task(load->iscsi, load->lun, lba, load->size_bytes,
                                           (int)load->block_bytes, 0, 0, 0, 0, 0, answered, slot,
                                           &slot->iov, 1);
    if (slot->task == NULL)
        refuse("a command could not be sent", iscsi_get_error(load->iscsi));
    load->under_way++;
}

static void run(struct load *load)
{
    uint64_t now = now_ns();

    for (uint32_t i = 0; i < load->depth; i++)
        send_next(&load->slots[i], now);
    while (load->under_way > 0) {
        struct pollfd wait = {.fd = iscsi_get_fd(load->iscsi),
                              .events = (short)iscsi_which_events(load->iscsi)};
        int ready = poll(&wait, 1, SILENCE_MS);

        if (ready == 0)
            refuse("the target has not answered for 20 s", NULL);
        if (ready < 0)
            refuse("poll failed", NULL);
        if (iscsi_service(load->iscsi, wait.revents) != 0)
            refuse("the session was lost", iscsi_get_error(load->iscsi));
    }
}

/* Log in, clear unit attentions, and learn the size of the LUN in bytes. */
static uint64_t log_in(struct load *load, const char *text, const char *initiator)
{
    struct iscsi_url *url;
    struct scsi_task *task = NULL;
    struct scsi_readcapacity16 *capacity;
    uint64_t bytes;

    load->iscsi = iscsi_create_context(initiator);
    if (load->iscsi == NULL)
        refuse("no libiscsi context", NULL);
    url = iscsi_parse_full_url(load->iscsi, text);
    if (url == NULL)
        refuse("URL", iscsi_get_error(load->iscsi));
    iscsi_set_session_type(load->iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_noautoreconnect(load->iscsi, 1);
    load->lun = url->lun;
    if (iscsi_full_connect_sync(load->iscsi, url->portal, url->lun) != 0)
        refuse("login", iscsi_get_error(load->iscsi));
    iscsi_destroy_url(url);
    for (int i = 0; i < UNIT_ATTENTIONS; i++) {
        task = iscsi_readcapacity16_sync(load->iscsi, load->lun);
        if (task == NULL || task->status == SCSI_STATUS_GOOD)
            break;
        scsi_free_scsi_task(task);
        task = NULL;
    }
    capacity = task ? scsi_datain_unmarshall(task) : NULL;
    if (capacity == NULL)
        refuse("READ CAPACITY (16)", iscsi_get_error(load->iscsi));
    load->block_bytes = capacity->block_length;
    bytes = (capacity->returned_lba + 1) * capacity->block_length;
    scsi_free_scsi_task(task);
    return bytes;
}

static void prepare_slots(struct load *load)
{
    for (uint32_t i = 0; i < load->depth; i++) {
        struct slot *slot = &load->slots[i];
        uint32_t *words = calloc(1, load->size_bytes);

        if (words == NULL)
            refuse("out of memory", NULL);
        for (uint32_t word = 0; word < load->size_bytes / 4; word++)
            words[word] = word ^ i << 24;
        *slot = (struct slot){.load = load, .buffer = (uint8_t *)words};
    }
}

static int compare_u32(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void report(const struct load *load)
{
    uint64_t kept = min_u64(load->done, SAMPLES);
    double seconds = (double)(load->last_done_ns - load->first_done_ns) / 1e9, sum = 0;
    static const struct {
        const char *name;
        double at;
    } wanted[] = {{"p50_us", 0.5}, {"p90_us", 0.9}, {"p99_us", 0.99}, {"p999_us", 0.999}};

    if (kept == 0 || seconds <= 0)
        refuse("nothing was done after the ramp", NULL);
    qsort(load->latency_ns, kept, sizeof(uint32_t), compare_u32);
    for (uint64_t i = 0; i < kept; i++)
        sum += load->latency_ns[i];
    printf("{\"done\": %llu, \"seconds\": %.3f, \"iops\": %.1f, \"mb_per_s\": %.1f, "
           "\"mean_us\": %.1f",
           (unsigned long long)load->done, seconds, (double)load->done / seconds,
           (double)load->done * load->size_bytes / seconds / 1e6, sum / (double)kept / 1e3);
    for (size_t i = 0; i < ARRAY_LENGTH(wanted); i++) {
        uint64_t rank = (uint64_t)(wanted[i].at * (double)kept);

        printf(", \"%s\": %.1f", wanted[i].name,
               load->latency_ns[rank < kept ? rank : kept - 1] / 1e3);
    }
    printf("}\n");
}

static void choose_mode(struct load *load, const char *mode)
{
    load->writes = strstr(mode, "write") != NULL || strcmp(mode, "fill") == 0;
    load->random = strncmp(mode, "rand", 4) == 0;
    load->once = strcmp(mode, "fill") == 0 || strcmp(mode, "warm") == 0;
    if (strcmp(mode + (load->random ? 4 : 0), "read") != 0 &&
        strcmp(mode + (load->random ? 4 : 0), "write") != 0 && !load->once)
        refuse("MODE must be randread, randwrite, read, write, fill or warm", NULL);
}

static void usage(const char *program)
{
    fprintf(stderr,
            "usage: %s URL MODE SIZE DEPTH SECONDS [RAMP_SECONDS [RANGE_BYTES [INITIATOR]]]\n"
            "  MODE: randread, randwrite, read, write; fill, warm: the whole range once\n",
            program);
    exit(2);
}

int main(int argc, char **argv)
{
    static struct load load;
    double seconds, ramp = 0;
    uint64_t bytes, range;

    if (argc < 6 || argc > 9)
        usage(argv[0]);
    signal(SIGPIPE, SIG_IGN);
    choose_mode(&load, argv[2]);
    load.size_bytes = (uint32_t)strtoul(argv[3], NULL, 10);
    load.depth = (uint32_t)strtoul(argv[4], NULL, 10);
    seconds = atof(argv[5]);
    if (argc > 6)
        ramp = atof(argv[6]);
    if (load.depth < 1 || load.depth > DEPTH_LIMIT)
        refuse("DEPTH must be from 1 to 256", NULL);
    if (!(seconds > 0 && seconds <= 600) || !(ramp >= 0 && ramp <= 60))
        refuse("SECONDS must be above 0 and at most 600, RAMP_SECONDS at most 60", NULL);
    bytes = log_in(&load, argv[1], argc > 8 ? argv[8] : "iqn.2026-11.holdfast.bench:load");
    if (load.size_bytes == 0 || load.size_bytes > SIZE_LIMIT ||
        load.size_bytes % load.block_bytes != 0)
        refuse("SIZE must be whole blocks, at most 4 MiB", NULL);
    range = argc > 7 ? strtoull(argv[7], NULL, 10) : bytes;
    load.places = min_u64(range, bytes) / load.size_bytes;
    if (load.places == 0)
        refuse("the LUN is smaller than one command", NULL);
    load.latency_ns = calloc(SAMPLES, sizeof(uint32_t));
    if (load.latency_ns == NULL)
        refuse("out of memory", NULL);
    generator_seed(&load.generator, now_ns());
    prepare_slots(&load);
    load.begin_ns = now_ns() + (uint64_t)(ramp * 1e9);
    load.end_ns = load.begin_ns + (uint64_t)(seconds * 1e9);
    run(&load);
    report(&load);
    iscsi_logout_sync(load.iscsi);
    iscsi_destroy_context(load.iscsi);
    for (uint32_t i = 0; i < load.depth; i++)
        free(load.slots[i].buffer);
    free(load.latency_ns);
    return 0;
}
