/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Two device servers, controllers a and b, over one state record for each volume that is replicated
 * as the core does it: a change counts if it was made from the present version, and both
 * controllers have it before the request that made it completes. Hosts are named after their path:
 * A1 is initiator 1 at controller a. A test sends whole commands and looks at the answers. */

#ifndef TESTS_SHARED_RECORD_H
#define TESTS_SHARED_RECORD_H

#include "scsi/internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

enum {
    A = 0,
    B = 1,
    VOLUMES = 3,
    VOLUME = 1, /* the one that most tests are about; LUN 0 of every host */
    TASK_BUFFER = 1 << 20,
};

enum host { A1, A2, A3, B1, B2, B4, HOSTS };

/* In which order the check of a long list of answers names them. */
#define HOST_NAMES ((const char *const[HOSTS]){"A1", "A2", "A3", "B1", "B2", "B4"})

static struct {
    struct scsi *side[2];
    void *memory[2];
    bool alive[2];
    struct scsi_nexus *nexus[HOSTS];
    uint8_t record[VOLUMES][VOLUME_STATE_BYTES];
    uint32_t length[VOLUMES];
    uint32_t version[VOLUMES];
    uint32_t changes;  /* HOST_STATE requests that counted */
    uint32_t barriers; /* of them with HOST_BARRIER */
    uint32_t ios;      /* requests of any kind */
    int owner;
    uint8_t moved_to; /* by the last HOST_MOVE */
    enum host_result move_result;
    enum host_result state_result; /* HOST_OK: as it happens; else every HOST_STATE ends so */
    void (*before_change)(void);   /* once, before the next HOST_STATE is looked at */
    uint8_t *buffer;
} shared;

static inline const char *host_port_name(enum host host)
{
    static char name[SCSI_PORT_NAME_SIZE];
    static const int initiator[HOSTS] = {1, 2, 3, 1, 2, 4};

    snprintf(name, sizeof name, "iqn.2026-11.example:host%d,i,0x00023d00000%d", initiator[host],
             initiator[host]);
    return name;
}

static inline int host_side(enum host host)
{
    return host < B1 ? A : B;
}

static inline uint16_t host_port(enum host host)
{
    return host_side(host) == A ? SCSI_PORT_A : SCSI_PORT_B;
}

static inline void host_login(enum host host)
{
    static const struct scsi_lun_map luns[] = {{0, VOLUME, false}, {5, 2, false}};

    shared.nexus[host] =
        scsi_nexus_open(shared.side[host_side(host)], host_port_name(host), luns, 2);
    assert_non_null(shared.nexus[host]);
}

static inline void shared_serve(int owner, uint8_t controllers)
{
    shared.owner = owner;
    for (int side = 0; side < 2; side++) {
        if (!shared.alive[side])
            continue;
        for (uint8_t volume = 0; volume < VOLUMES; volume++)
            scsi_on_service(shared.side[side], volume, owner,
                            !(controllers & 1 << side) ? SCSI_UNSERVED
                            : side == owner            ? SCSI_SERVED_HERE
                                                       : SCSI_SERVED_THERE);
        scsi_on_controllers(shared.side[side], controllers);
    }
}

/* A controller starts: it has the record that is there, and no host. */
static inline void shared_start(int side)
{
    static struct scsi_config config;
    const char *reason = NULL;
    size_t size;

    memset(&config, 0, sizeof config);
    config.self = (uint8_t)side;
    strcpy(config.array_name, "array");
    strcpy(config.target_name, "iqn.2026-11.holdfast:array");
    config.transfer_bytes = 1 << 20;
    config.nexus_limit = 300;
    config.unit_count = VOLUMES;
    for (int i = 0; i < VOLUMES; i++) {
        snprintf(config.units[i].name, sizeof config.units[i].name, "volume%d", i);
        config.units[i].size_bytes = 1 << 20;
        config.units[i].block_bytes = 512;
    }
    assert_null(scsi_config_check(&config));
    size = scsi_memory_size(&config);
    shared.memory[side] = aligned_alloc(64, (size + 63) / 64 * 64);
    memset(shared.memory[side], 0, size);
    shared.side[side] = scsi_create(&config, shared.memory[side], size);
    shared.alive[side] = true;
    for (uint8_t volume = 0; volume < VOLUMES; volume++) {
        (void)!scsi_on_state(shared.side[side], volume, shared.version[volume],
                             shared.record[volume], shared.length[volume], &reason);
        assert_null(reason);
    }
}

static inline void shared_stop(int side)
{
    shared.alive[side] = false;
    free(shared.memory[side]);
    shared.memory[side] = NULL;
    for (int host = 0; host < HOSTS; host++)
        if (host_side((enum host)host) == side)
            shared.nexus[host] = NULL;
}

static inline void clear_attentions(void)
{
    for (int host = 0; host < HOSTS; host++)
        for (int lun = 0; lun < SCSI_LUN_LIMIT && shared.nexus[host] != NULL; lun++)
            shared.nexus[host]->luns[lun].attentions = 0;
}

static inline int shared_setup(void **state)
{
    (void)state;
    memset(&shared, 0, sizeof shared);
    shared.buffer = malloc(TASK_BUFFER);
    shared_start(A);
    shared_start(B);
    shared_serve(A, 3);
    for (int host = 0; host < HOSTS; host++)
        host_login((enum host)host);
    clear_attentions();
    return 0;
}

static inline int shared_teardown(void **state)
{
    (void)state;
    for (int side = 0; side < 2; side++)
        if (shared.alive[side])
            shared_stop(side);
    free(shared.buffer);
    return 0;
}

static inline void tell_both(uint8_t volume)
{
    for (int side = 0; side < 2; side++) {
        const char *reason = NULL;
        if (!shared.alive[side])
            continue;
        (void)!scsi_on_state(shared.side[side], volume, shared.version[volume],
                             shared.record[volume], shared.length[volume], &reason);
        assert_null(reason);
    }
}

static inline enum host_result carry_out(const struct host_request *request)
{
    uint8_t volume = request->volume;

    shared.ios++;
    if (request->op == HOST_MOVE) {
        shared.moved_to = (uint8_t)request->offset_bytes;
        if (shared.move_result == HOST_OK)
            shared_serve(shared.moved_to, 3);
        return shared.move_result;
    }
    if (request->op == HOST_STATE && shared.before_change != NULL) {
        void (*hook)(void) = shared.before_change;
        shared.before_change = NULL;
        hook();
    }
    if (request->op == HOST_STATE && shared.state_result != HOST_OK)
        return shared.state_result;
    if (request->op != HOST_STATE) {
        if ((request->flags & HOST_VERSIONED) && request->state_version != shared.version[volume])
            return HOST_STALE;
        return HOST_OK;
    }
    if (request->state_version != shared.version[volume])
        return HOST_STALE;
    assert_in_range(request->length_bytes, 1, VOLUME_STATE_BYTES);
    memcpy(shared.record[volume], request->data, request->length_bytes);
    shared.length[volume] = (uint32_t)request->length_bytes;
    shared.version[volume]++;
    shared.changes++;
    shared.barriers += (request->flags & HOST_BARRIER) != 0;
    tell_both(volume);
    return HOST_OK;
}

/* ---- commands ---- */

static struct scsi_task task; /* the last command's */

static inline uint8_t send_to_lun(enum host host, uint8_t lun, const uint8_t *cdb,
                                  uint32_t cdb_bytes, const void *out, uint32_t out_bytes)
{
    struct scsi_task mine = {0};
    uint8_t *buffer = NULL;
    enum scsi_step step;

    mine.nexus = shared.nexus[host];
    mine.lun[1] = lun;
    memcpy(mine.cdb, cdb, cdb_bytes);
    mine.cdb_bytes = cdb_bytes;
    mine.attribute = SCSI_SIMPLE;
    mine.expected_out_bytes = out_bytes;
    mine.expected_in_bytes = out == NULL ? TASK_BUFFER : 0;
    step = scsi_task_begin(shared.side[host_side(host)], &mine);
    if (step == SCSI_BUFFER) {
        /* Exactly as long as asked for, so that a sanitizer sees what goes past it. */
        buffer = malloc(mine.buffer_bytes);
        for (uint32_t i = 0; i < mine.buffer_bytes; i++)
            buffer[i] = i % 4 == 3 ? 0xFC : 0xFF; /* -4, so that what is read too far counts */
        assert_true(mine.out_bytes <= out_bytes);
        for (uint32_t i = 0; i < mine.out_bytes; i++)
            buffer[i] = ((const uint8_t *)out)[i];
        mine.buffer = buffer;
        step = scsi_task_run(&mine);
    }
    for (int i = 0; step == SCSI_IO; i++) {
        assert_true(i < 100);
        step = scsi_task_io_done(&mine, carry_out(&mine.request), 0);
    }
    assert_int_equal(step, SCSI_DONE);
    if (mine.in_bytes > 0)
        memcpy(shared.buffer, buffer + mine.in_offset, mine.in_bytes);
    task = mine;
    task.buffer = shared.buffer;
    free(buffer);
    return task.status;
}

static inline uint8_t send_out(enum host host, const uint8_t *cdb, uint32_t cdb_bytes,
                               const void *out, uint32_t out_bytes)
{
    return send_to_lun(host, 0, cdb, cdb_bytes, out, out_bytes);
}

static inline uint8_t send_in(enum host host, const uint8_t *cdb, uint32_t cdb_bytes)
{
    return send_to_lun(host, 0, cdb, cdb_bytes, NULL, 0);
}

static inline uint8_t ready(enum host host)
{
    return send_in(host, (const uint8_t[6]){0x00}, 6);
}

static inline uint8_t write_block(enum host host)
{
    static const uint8_t block[512];

    return send_out(host, (const uint8_t[10]){0x2A, [8] = 1}, 10, block, sizeof block);
}

static inline uint8_t read_block(enum host host)
{
    return send_in(host, (const uint8_t[10]){0x28, [8] = 1}, 10);
}

/* Sense key << 16 | ASC << 8 | ASCQ of the last answer; 0 without sense. */
static inline uint32_t sense(void)
{
    if (task.status != SCSI_CHECK_CONDITION)
        return 0;
    assert_int_equal(task.sense[0] & 0x7F, 0x70);
    return (uint32_t)(task.sense[2] & 15) << 16 | (uint32_t)task.sense[12] << 8 | task.sense[13];
}

/* The field pointer: byte << 4 | 8 | bit with a bit; byte << 4 without one; -1: none. */
static inline int field_pointer(void)
{
    if (task.status != SCSI_CHECK_CONDITION || !(task.sense[15] & 0x80))
        return -1;
    return (int)get_u16(task.sense + 16) << 4 |
           ((task.sense[15] & 8) ? 8 | (task.sense[15] & 7) : 0);
}

enum {
    INVALID_IN_CDB = 0x52400,
    INVALID_IN_LIST = 0x52600,
    INVALID_RELEASE = 0x52604,
    LIST_LENGTH = 0x51A00,
    NO_RESOURCES = 0x55504,
    POWER_ON = 0x62900,
    BUS_DEVICE_RESET = 0x62903,
    NEXUS_LOSS = 0x62907,
    MODE_CHANGED = 0x62A01,
    RESERVATIONS_PREEMPTED = 0x62A03,
    RESERVATIONS_RELEASED = 0x62A04,
    REGISTRATIONS_PREEMPTED = 0x62A05,
    ACCESS_STATE_CHANGED = 0x62A06,
    COMMANDS_CLEARED = 0x62F00,
};

/* The one unit attention of a host, or 0. More than one fails. */
static inline uint32_t attention(enum host host)
{
    uint32_t first;

    (void)ready(host);
    first = sense();
    if (first != 0) {
        (void)ready(host);
        assert_int_equal(sense(), 0);
    }
    return first;
}

static inline void no_attention_but(uint32_t hosts)
{
    for (int host = 0; host < HOSTS; host++) {
        if (hosts & 1u << host || shared.nexus[host] == NULL)
            continue;
        if (shared.nexus[host]->luns[0].attentions != 0)
            print_error("%s has a unit attention\n", HOST_NAMES[host]);
        assert_int_equal(shared.nexus[host]->luns[0].attentions, 0);
    }
}

/* ---- PERSISTENT RESERVE ---- */

enum { REGISTER, RESERVE, RELEASE, CLEAR, PREEMPT, PREEMPT_AND_ABORT, REGISTER_IGNORE, MOVE };
enum { WE = 1, EA = 3, WERO = 5, EARO = 6, WEAR = 7, EAAR = 8 };
enum { APTPL = 1, ALL_TG_PT = 4, SPEC_I_PT = 8 };

#define TYPES ((const uint8_t[]){WE, EA, WERO, EARO, WEAR, EAAR})

static inline uint8_t pr_out_list(enum host host, uint8_t action, uint8_t type, const uint8_t *list,
                                  uint32_t list_bytes)
{
    uint8_t cdb[10] = {0x5F, action, type};

    put_u32(cdb + 5, list_bytes);
    return send_out(host, cdb, sizeof cdb, list, list_bytes);
}

static inline uint8_t pr_out(enum host host, uint8_t action, uint8_t type, uint64_t key,
                             uint64_t service_key, uint8_t flags)
{
    uint8_t list[24] = {0};

    put_u64(list, key);
    put_u64(list + 8, service_key);
    list[20] = flags;
    return pr_out_list(host, action, type, list, sizeof list);
}

/* Each host's key is its number and a mark. */
static inline uint64_t key_of(enum host host)
{
    return 0xBEEF000000000100u + (uint64_t)host;
}

static inline void enroll(enum host host)
{
    assert_int_equal(pr_out(host, REGISTER_IGNORE, 0, 0, key_of(host), 0), SCSI_GOOD);
}

static inline void reserve(enum host host, uint8_t type)
{
    assert_int_equal(pr_out(host, RESERVE, type, key_of(host), 0, 0), SCSI_GOOD);
}

static inline uint8_t pr_in(enum host host, uint8_t action, uint16_t allocation_bytes)
{
    uint8_t cdb[10] = {0x5E, action};

    put_u16(cdb + 7, allocation_bytes);
    return send_in(host, cdb, sizeof cdb);
}

static inline uint32_t generation(enum host host)
{
    assert_int_equal(pr_in(host, 0, 8), SCSI_GOOD);
    return get_u32(shared.buffer);
}

/* How many registrations carry the key, as every live host sees it. */
static inline uint32_t keys(enum host host, uint64_t key)
{
    uint32_t count = 0;

    assert_int_equal(pr_in(host, 0, 65535), SCSI_GOOD);
    assert_int_equal(get_u32(shared.buffer + 4), task.in_bytes - 8);
    for (uint32_t at = 8; at < task.in_bytes; at += 8)
        count += key == 0 || get_u64(shared.buffer + at) == key;
    return count;
}

/* Both controllers say the same of who has reserved. */
static inline void reserved_as(uint8_t type, uint64_t key)
{
    static const enum host askers[2] = {A3, B4};

    for (int i = 0; i < 2; i++) {
        if (shared.nexus[askers[i]] == NULL)
            continue;
        assert_int_equal(pr_in(askers[i], 1, 64), SCSI_GOOD);
        if (type == 0) {
            assert_int_equal(task.in_bytes, 8);
            assert_int_equal(get_u32(shared.buffer + 4), 0);
            continue;
        }
        assert_int_equal(task.in_bytes, 24);
        assert_int_equal(get_u32(shared.buffer + 4), 16);
        assert_int_equal(shared.buffer[21], type);
        assert_true(get_u64(shared.buffer + 8) == key);
    }
}

/* A TransportID of an initiator port. Returns its size. */
static inline uint32_t put_transport_id(uint8_t *to, const char *name)
{
    uint32_t padded = ((uint32_t)strlen(name) + 1 + 3) / 4 * 4;

    if (padded < 20)
        padded = 20;
    memset(to, 0, 4 + padded);
    to[0] = 0x45;
    put_u16(to + 2, (uint16_t)padded);
    memcpy(to + 4, name, strlen(name));
    return 4 + padded;
}

/* ---- task management ---- */

static inline enum scsi_manage_result manage_at(int side, enum scsi_function function,
                                                struct scsi_nexus *nexus, uint8_t lun)
{
    static uint8_t record[VOLUME_STATE_BYTES];
    struct scsi_manage manage = {
        .function = function, .nexus = nexus, .lun = {0, lun}, .buffer = record};
    enum scsi_step step = scsi_manage_begin(shared.side[side], &manage);

    for (int i = 0; step == SCSI_IO; i++) {
        assert_true(i < 1000);
        step = scsi_manage_io_done(&manage, carry_out(&manage.request));
    }
    assert_int_equal(step, SCSI_DONE);
    return manage.result;
}

static inline enum scsi_manage_result manage(enum host host, enum scsi_function function,
                                             uint8_t lun)
{
    return manage_at(host_side(host), function, shared.nexus[host], lun);
}

/* A session ends as the shell ends it. */
static inline void host_logout(enum host host)
{
    scsi_nexus_leave(shared.side[host_side(host)], shared.nexus[host]);
    assert_int_equal(manage(host, SCSI_NEXUS_LOSS, 0), SCSI_FUNCTION_COMPLETE);
    scsi_nexus_close(shared.side[host_side(host)], shared.nexus[host]);
    shared.nexus[host] = NULL;
}

/* A command of a host that is under way, as the caller holds it. */
static inline struct scsi_task under_way(enum host host)
{
    struct scsi_task begun = {0};

    begun.nexus = shared.nexus[host];
    memcpy(begun.cdb, (const uint8_t[10]){0x28, [8] = 1}, 10);
    begun.cdb_bytes = 10;
    begun.attribute = SCSI_SIMPLE;
    begun.expected_in_bytes = 512;
    assert_int_equal(scsi_task_begin(shared.side[host_side(host)], &begun), SCSI_BUFFER);
    return begun;
}

#endif
