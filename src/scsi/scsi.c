/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The device server's life, its nexuses, what it is told of the core, and the way of a task through
 * its steps: which checks come before a command's own (SAM-5 5.3.3), and what a request's result
 * means. It knows no command; those are rows of the table in command.c. A task stands in no list:
 * forgetting one leaves nothing behind. */

#include "scsi/sense.h"

/* ---- life ---- */

const char *scsi_config_check(const struct scsi_config *config)
{
    uint8_t naa[VOLUME_LIMIT][16];

    if (config->self > 1)
        return "self: 0 (a) or 1 (b)";
    if (strnlen(config->array_name, VOLUME_NAME_SIZE) == VOLUME_NAME_SIZE)
        return "array_name: shorter than 64 bytes";
    if (config->target_name[0] == 0 ||
        strnlen(config->target_name, SCSI_TARGET_NAME_SIZE) == SCSI_TARGET_NAME_SIZE)
        return "target_name: 1 to 223 bytes";
    if (config->transfer_bytes < 65536 || config->transfer_bytes > HOST_IO_BYTES ||
        config->transfer_bytes % 4096 != 0)
        return "transfer_bytes: 64 KiB to 32 MiB, a multiple of 4096";
    if (config->nexus_limit == 0 || config->nexus_limit > SCSI_NEXUS_LIMIT)
        return "nexus_limit: 1 to 16384";
    if (config->unit_count > VOLUME_LIMIT)
        return "unit_count: at most 256";
    for (uint32_t i = 0; i < config->unit_count; i++) {
        const struct scsi_unit_config *unit = &config->units[i];
        if (unit->name[0] == 0 || strnlen(unit->name, VOLUME_NAME_SIZE) == VOLUME_NAME_SIZE)
            return "units[].name: 1 to 63 bytes";
        if (unit->block_bytes != 512 && unit->block_bytes != 4096)
            return "units[].block_bytes: 512 or 4096";
        if (unit->size_bytes == 0 || unit->size_bytes % unit->block_bytes != 0)
            return "units[].size_bytes: a multiple of block_bytes, not zero";
        if (unit->transition > SCSI_TRANSITION_SENSE)
            return "units[].transition: wait, busy or transitioning";
        scsi_identity_naa(config->array_name, unit->name, naa[i]);
        for (uint32_t j = 0; j < i; j++)
            if (memcmp(naa[i], naa[j], sizeof naa[i]) == 0)
                return "units[].name: two volumes have the same identifier; rename one";
    }
    return NULL;
}

static struct scsi *lay_out(struct arena *arena, const struct scsi_config *config)
{
    struct scsi *scsi = arena_array(arena, struct scsi, 1);
    struct scsi_unit *units = arena_array(arena, struct scsi_unit, config->unit_count);
    struct scsi_nexus *nexuses = arena_array(arena, struct scsi_nexus, config->nexus_limit);

    if (scsi != NULL) {
        scsi->units = units;
        scsi->nexuses = nexuses;
    }
    return scsi;
}

size_t scsi_memory_size(const struct scsi_config *config)
{
    struct arena arena = arena_over(NULL, 0);

    (void)lay_out(&arena, config);
    return arena.used + 64;
}

static void unit_create(struct scsi_unit *unit, const struct scsi_config *config, uint32_t index)
{
    const struct scsi_unit_config *from = &config->units[index];

    unit->volume = (uint8_t)index;
    unit->block_shift = from->block_bytes == 4096 ? 12 : 9;
    unit->thin = from->thin;
    unit->transition = (uint8_t)from->transition;
    unit->size_bytes = from->size_bytes;
    unit->block_count = from->size_bytes >> unit->block_shift;
    unit->owner = -1;
    unit->service = SCSI_UNSERVED;
    unit->settled[0] = ALUA_UNAVAILABLE;
    unit->settled[1] = ALUA_UNAVAILABLE;
    memcpy(unit->name, from->name, sizeof unit->name);
    scsi_identity_naa(config->array_name, from->name, unit->naa);
    record_clear(&unit->record);
}

struct scsi *scsi_create(const struct scsi_config *config, void *memory, size_t size)
{
    struct arena arena = arena_over(memory, size);
    struct scsi *scsi;

    CHECK(scsi_config_check(config) == NULL);
    CHECK(memory != NULL);
    CHECK(size >= scsi_memory_size(config));
    scsi = lay_out(&arena, config);
    scsi->config = *config;
    scsi->self = config->self;
    for (uint32_t i = 0; i < config->unit_count; i++)
        unit_create(&scsi->units[i], config, i);
    for (uint32_t i = 0; i < config->nexus_limit; i++)
        scsi->nexuses[i].next_free = i + 1 < config->nexus_limit ? i + 1 : NO_INDEX;
    scsi->free_nexus = 0;
    command_index(scsi->first_row);
    return scsi;
}

/* ---- what changed ---- */

bool scsi_on_state(struct scsi *scsi, uint8_t volume, uint32_t version, const void *bytes,
                   uint32_t length, const char **reason)
{
    uint32_t checksum = length >= 4 ? get_u32((const uint8_t *)bytes + length - 4) : 0;
    struct scsi_unit *unit;
    bool ends;

    CHECK(volume < scsi->config.unit_count);
    unit = &scsi->units[volume];
    *reason = NULL;
    /* The version alone does not say it: a controller that starts may have kept one that the pair
     * has gone another way from. */
    if (version == unit->state_version && length == unit->state_length &&
        checksum == unit->state_checksum)
        return false;
    if (length == 0)
        record_clear(&scsi->incoming);
    else
        *reason = record_decode(&scsi->incoming, bytes, length);
    if (*reason != NULL)
        return false;
    ends = attention_on_record(scsi, unit, &scsi->incoming, version != 0);
    unit->record = scsi->incoming;
    unit->state_version = version;
    unit->state_length = length;
    unit->state_checksum = checksum;
    unit->guarded = reservation_present(&unit->record);
    manage_reserver_left(scsi, unit);
    manage_look(scsi, unit);
    return ends || scsi->upkeep;
}

bool scsi_keeps_state(const struct scsi *scsi, uint8_t volume)
{
    CHECK(volume < scsi->config.unit_count);
    return scsi->units[volume].record.aptpl;
}

uint32_t scsi_power_on_state(struct scsi *scsi, const void *bytes, uint32_t length, void *to,
                             const char **reason)
{
    *reason = record_decode(&scsi->incoming, bytes, length);
    if (*reason != NULL || !scsi->incoming.aptpl)
        return 0;
    record_power_on(&scsi->incoming);
    return record_encode(&scsi->incoming, to);
}

void scsi_on_service(struct scsi *scsi, uint8_t volume, int owner, enum scsi_service service)
{
    struct scsi_unit *unit;

    CHECK(volume < scsi->config.unit_count);
    CHECK(owner >= -1 && owner <= 1);
    unit = &scsi->units[volume];
    unit->owner = (int8_t)owner;
    unit->service = (uint8_t)service;
    alua_on_change(scsi, unit);
    manage_look(scsi, unit);
}

void scsi_on_copy(struct scsi *scsi, uint8_t volume, bool is_copy)
{
    CHECK(volume < scsi->config.unit_count);
    struct scsi_unit *unit = &scsi->units[volume];
    if (unit->is_copy == is_copy)
        return;
    unit->is_copy = is_copy;
    for (uint32_t i = 0; i < scsi->nexus_high; i++) {
        struct scsi_nexus *nexus = &scsi->nexuses[i];
        struct scsi_access *access = nexus->open ? nexus_access(nexus, volume) : NULL;
        if (access)
            access->attentions |= attention_bit(ATTENTION_MODE_CHANGED);
    }
}

bool task_is_protected(const struct scsi_unit *unit, const struct scsi_access *access)
{
    return access->read_only || unit->is_copy || unit->record.mode.software_protected;
}

void scsi_on_controllers(struct scsi *scsi, uint8_t in)
{
    scsi->controllers = in;
    for (uint32_t i = 0; i < scsi->config.unit_count; i++) {
        alua_on_change(scsi, &scsi->units[i]);
        manage_look(scsi, &scsi->units[i]);
    }
}

/* ---- nexuses ---- */

struct scsi_nexus *scsi_nexus_open(struct scsi *scsi, const char *port_name,
                                   const struct scsi_lun_map *luns, uint32_t lun_count)
{
    struct scsi_nexus *nexus;
    char name[SCSI_PORT_NAME_SIZE] = {0};

    if (!record_port_name(name, port_name, SCSI_PORT_NAME_SIZE) || scsi->free_nexus == NO_INDEX ||
        lun_count > SCSI_LUN_LIMIT)
        return NULL;
    nexus = &scsi->nexuses[scsi->free_nexus];
    memset(nexus->luns, 0, sizeof nexus->luns);
    for (uint32_t i = 0; i < lun_count; i++) {
        struct scsi_access *access = &nexus->luns[luns[i].lun];
        if (access->present || luns[i].volume >= scsi->config.unit_count ||
            nexus_access(nexus, luns[i].volume) != NULL)
            return NULL;
        access->present = true;
        access->volume = luns[i].volume;
        access->read_only = luns[i].read_only;
    }
    scsi->free_nexus = nexus->next_free;
    scsi->nexus_high = max_u32(scsi->nexus_high, (uint32_t)(nexus - scsi->nexuses) + 1);
    nexus->open = true;
    nexus->leaving = false;
    nexus->port = scsi->self == 0 ? SCSI_PORT_A : SCSI_PORT_B;
    nexus->lun_count = lun_count;
    memcpy(nexus->name, name, sizeof nexus->name);
    nexus->copy.held = false;
    attention_on_open(scsi, nexus);
    return nexus;
}

void scsi_nexus_leave(struct scsi *scsi, struct scsi_nexus *nexus)
{
    CHECK(nexus->open);
    nexus->leaving = true;
    for (uint32_t i = 0; i < scsi->config.unit_count; i++)
        manage_reserver_left(scsi, &scsi->units[i]);
}

void scsi_nexus_close(struct scsi *scsi, struct scsi_nexus *nexus)
{
    CHECK(nexus->open);
    attention_on_close(scsi, nexus);
    nexus->open = false;
    for (uint32_t i = 0; i < scsi->config.unit_count; i++)
        if (scsi->units[i].echo_by == nexus)
            scsi->units[i].echo_by = NULL;
    for (uint32_t i = 0; i < scsi->config.unit_count; i++)
        manage_reserver_left(scsi, &scsi->units[i]);
    nexus->next_free = scsi->free_nexus;
    scsi->free_nexus = (uint32_t)(nexus - scsi->nexuses);
    while (scsi->nexus_high > 0 && !scsi->nexuses[scsi->nexus_high - 1].open)
        scsi->nexus_high--;
}

struct scsi_access *nexus_access(struct scsi_nexus *nexus, uint8_t volume)
{
    for (uint32_t i = 0; i < SCSI_LUN_LIMIT; i++)
        if (nexus->luns[i].present && nexus->luns[i].volume == volume)
            return &nexus->luns[i];
    return NULL;
}

/* SAM-5 4.7: single level, peripheral device addressing of bus 0 or flat space addressing. NULL:
 * no such LUN. */
static struct scsi_access *find_access(struct scsi_nexus *nexus, const uint8_t lun[8])
{
    uint64_t all = get_u64(lun);
    uint32_t number = (uint32_t)(all >> 48) & 0x3FFF;
    uint32_t method = (uint32_t)(all >> 62);

    if ((all & 0x0000FFFFFFFFFFFFu) != 0 || method > 1 || number >= SCSI_LUN_LIMIT ||
        !nexus->luns[number].present)
        return NULL;
    return &nexus->luns[number];
}

int scsi_nexus_volume(const struct scsi_nexus *nexus, const uint8_t lun[8])
{
    uint64_t all = get_u64(lun);
    uint32_t number = (uint32_t)(all >> 48) & 0x3FFF;

    if ((all & 0x8000FFFFFFFFFFFFu) != 0 || number >= SCSI_LUN_LIMIT ||
        !nexus->luns[number].present)
        return -1;
    return nexus->luns[number].volume;
}

/* ---- a task's steps ---- */

enum scsi_step task_status(struct scsi_task *task, enum scsi_status status)
{
    task->status = (uint8_t)status;
    task->sense_bytes = 0;
    task->in_bytes = 0;
    return SCSI_DONE;
}

enum scsi_step task_good(struct scsi_task *task)
{
    task->status = SCSI_GOOD;
    return SCSI_DONE;
}

enum scsi_step task_buffer_out(struct scsi_task *task, uint64_t list_bytes, uint32_t total_bytes)
{
    CHECK(list_bytes <= total_bytes);
    task->writes = true;
    task->transfer_bytes = list_bytes;
    task->out_bytes = (uint32_t)min_u64(list_bytes, task->expected_out_bytes);
    task->buffer_bytes = total_bytes;
    if (total_bytes == 0)
        return task->command->run(task);
    return SCSI_BUFFER;
}

enum scsi_step task_buffer_in(struct scsi_task *task, uint32_t limit_bytes)
{
    task->buffer_bytes = limit_bytes;
    return SCSI_BUFFER;
}

enum scsi_step task_in(struct scsi_task *task, uint32_t length_bytes, uint32_t allocation_bytes)
{
    CHECK(length_bytes <= task->buffer_bytes);
    task->writes = false;
    task->transfer_bytes = min_u32(length_bytes, allocation_bytes);
    task->in_offset = 0;
    task->in_bytes = (uint32_t)min_u64(task->transfer_bytes, task->expected_in_bytes);
    return task_good(task);
}

bool task_may_retry(struct scsi_task *task)
{
    return task->retries++ < SCSI_STALE_RETRIES;
}

enum scsi_step task_record(struct scsi_task *task, const struct record *record, uint8_t flags)
{
    struct scsi_unit *unit = task->unit;

    CHECK(task->buffer_bytes >= task->out_bytes + VOLUME_STATE_BYTES);
    task->request.op = HOST_STATE;
    task->request.volume = unit->volume;
    task->request.flags = flags;
    task->request.tag = 0;
    task->request.state_version = unit->state_version;
    task->request.offset_bytes = 0;
    task->request.data = task->buffer + task->out_bytes;
    task->request.length_bytes = record_encode(record, task->buffer + task->out_bytes);
    CHECK(task->request.length_bytes <= VOLUME_STATE_BYTES);
    return SCSI_IO;
}

enum scsi_step task_host(struct scsi_task *task, enum host_op op, uint8_t flags,
                         uint64_t offset_bytes, uint64_t length_bytes, void *data)
{
    task->request.op = op;
    task->request.volume = task->unit->volume;
    task->request.flags = HOST_VERSIONED | flags;
    task->request.tag = 0;
    task->request.state_version = task->state_version;
    task->request.offset_bytes = offset_bytes;
    task->request.length_bytes = length_bytes;
    task->request.data = data;
    return SCSI_IO;
}

enum scsi_step task_host_error(struct scsi_task *task, enum host_result result)
{
    switch (result) {
    case HOST_NOT_OWNER:
        return sense_unavailable(task);
    case HOST_RANGE:
        return sense_lba_out_of_range(task);
    case HOST_BUSY:
        return task_status(task, SCSI_TASK_SET_FULL);
    case HOST_IO_ERROR:
        return task->request.op == HOST_READ ? sense_read_error(task) : sense_write_error(task);
    case HOST_STALE:
        return task_status(task, SCSI_STATUS_BUSY);
    case HOST_COPY:
        return sense_intervention(task);
    case HOST_READ_ONLY:
        return sense_write_protected(task);
    case HOST_OK:
    case HOST_MISCOMPARE:
    case HOST_REFUSED:
        break;
    }
    return sense_target_failure(task);
}

/* SAM-5 5.3.3: these attentions come before a reservation conflict, all others after it. */
enum {
    EARLY_ATTENTIONS =
        1 << ATTENTION_POWER_ON | 1 << ATTENTION_BUS_DEVICE_RESET | 1 << ATTENTION_NEXUS_LOSS
};

static enum scsi_step report_attention(struct scsi_task *task, uint16_t among)
{
    uint32_t bits = task->access->attentions & among;
    enum attention attention = (enum attention)__builtin_ctz(bits);

    task->access->attentions &= (uint16_t)~attention_bit(attention);
    return sense_attention(task, attention);
}

/* Whether the reservations and write protection of the record allow the command. When not, the
 * answer is in the task. */
static bool record_allows(struct scsi_task *task)
{
    const struct scsi_unit *unit = task->unit;
    uint16_t flags = task->command->flags;

    task->state_version = unit->state_version;
    if (unit->guarded && !(flags & COMMAND_RESERVED_ITSELF) &&
        !reservation_check(unit, task->access, flags)) {
        (void)task_status(task, SCSI_RESERVATION_CONFLICT);
        return false;
    }
    return true;
}

static bool protection_allows(struct scsi_task *task)
{
    if ((task->command->flags & COMMAND_WRITES) && task_is_protected(task->unit, task->access)) {
        (void)sense_write_protected(task);
        return false;
    }
    return true;
}

/* What the unit's state says before the command itself is looked at. False: the answer is in the
 * task. */
static bool unit_allows(struct scsi_task *task)
{
    const struct scsi_unit *unit = task->unit;
    uint16_t flags = task->command->flags;
    uint16_t attentions = task->access->attentions;

    if (attentions != 0 && !(flags & COMMAND_WITH_ATTENTION) &&
        (attentions & EARLY_ATTENTIONS) != 0) {
        (void)report_attention(task, EARLY_ATTENTIONS);
        return false;
    }
    if (!record_allows(task))
        return false;
    if (attentions != 0 && !(flags & COMMAND_WITH_ATTENTION)) {
        (void)report_attention(task, UINT16_MAX);
        return false;
    }
    if (unit->service >= SCSI_HELD && !(flags & COMMAND_WHILE_UNAVAILABLE)) {
        if (unit->service == SCSI_UNSERVED) {
            (void)sense_unavailable(task);
            return false;
        }
        if (unit->transition == SCSI_TRANSITION_BUSY) {
            (void)task_status(task, SCSI_STATUS_BUSY);
            return false;
        }
        if (unit->transition == SCSI_TRANSITION_SENSE) {
            (void)sense_transitioning(task);
            return false;
        }
    }
    if (unit->record.stopped && !(flags & COMMAND_WHILE_STOPPED)) {
        (void)sense_stopped(task);
        return false;
    }
    return protection_allows(task);
}

enum scsi_step scsi_task_begin(struct scsi *scsi, struct scsi_task *task)
{
    bool known_opcode = false;

    CHECK(task->nexus->open);
    task->scsi = scsi;
    task->access = find_access(task->nexus, task->lun);
    task->unit = task->access != NULL ? &scsi->units[task->access->volume] : NULL;
    task->epoch = task->access != NULL ? task->access->epoch : 0;
    task->buffer_bytes = 0;
    task->out_bytes = 0;
    task->buffer = NULL;
    task->status = SCSI_GOOD;
    task->sense_bytes = 0;
    task->in_offset = 0;
    task->in_bytes = 0;
    task->transfer_bytes = 0;
    task->writes = false;
    task->retries = 0;
    task->phase = 0;
    task->exempt = false;

    task->command = task->cdb_bytes > SCSI_CDB_BYTES
                        ? NULL
                        : command_find(scsi->first_row, task->cdb, &known_opcode);
    if (task->unit == NULL &&
        (task->command == NULL || !(task->command->flags & COMMAND_WITHOUT_UNIT)))
        return sense_lun_not_supported(task);
    if (task->command == NULL) {
        if (task->cdb_bytes <= SCSI_CDB_BYTES && known_opcode)
            return sense_invalid_field_in_cdb(task, 1, 4);
        return sense_invalid_opcode(task);
    }
    if (task->attribute == SCSI_ACA)
        return sense_aborted(task, 0x4900);
    /* NACA (SAM-5 5.2) of the control byte, the last of every CDB that we have. */
    if (task->cdb[task->command->cdb_bytes - 1] & 0x04)
        return sense_invalid_field_in_cdb(task, task->command->cdb_bytes - 1u, 2);
    if (task->unit != NULL && !unit_allows(task))
        return SCSI_DONE;
    return task->command->begin(task);
}

enum scsi_step scsi_task_run(struct scsi_task *task)
{
    CHECK(task->buffer != NULL);
    return task->command->run(task);
}

enum scsi_step scsi_task_io_done(struct scsi_task *task, enum host_result result, uint64_t detail)
{
    if (__builtin_expect(result == HOST_STALE, 0) && task->request.op != HOST_STATE &&
        !(task->command->flags & COMMAND_STALE_ITSELF)) {
        /* Somebody changed the record since it was looked at: look again, and ask again. */
        if (!task_may_retry(task))
            return task_status(task, SCSI_STATUS_BUSY);
        if (!record_allows(task) || !protection_allows(task))
            return SCSI_DONE;
        task->request.state_version = task->state_version;
        return SCSI_IO;
    }
    /* A change that was overtaken is made again from the newer record, if that one lets it. */
    if (result == HOST_STALE && task->request.op == HOST_STATE && !record_allows(task))
        return SCSI_DONE;
    return task->command->io_done(task, result, detail);
}

void scsi_task_abort(struct scsi_task *task)
{
    task->status = SCSI_TASK_ABORTED;
    task->sense_bytes = 0;
    task->in_bytes = 0;
}

void scsi_task_fail(struct scsi_task *task, uint16_t additional_sense)
{
    (void)sense_aborted(task, additional_sense);
}
