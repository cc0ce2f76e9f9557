/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See oracle.h.
 *
 * Time is a counter that goes up with every begin and end. A write takes effect (is linearized) at
 * one instant between its begin and its end. Each cell keeps the writes that may be its present
 * value:
 *
 *     begin of w       w joins, with latest = never
 *     end of w         w's latest = now; every u whose latest is before w began must come before w:
 * it goes unknown end      w's latest = now; nobody goes read [from, now] the value must be a
 * candidate now, or one that went after `from`; its latest = now at gives v          most; every
 * other u whose latest is before `from`, or before v began, must come before v: it goes; when
 * nobody is left, v was too old
 *
 * One that goes is remembered for as long as a read that began before is under way. */

#include "sim/oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NEVER UINT64_MAX

struct candidate {
    uint64_t id;     /* 0: the zeros that the volume started with */
    uint64_t latest; /* the last instant at which it can have taken effect */
    uint64_t gone;   /* when it stopped being possible; NEVER while it is */
};

struct cell {
    struct candidate *list;
    uint16_t count, room;
    bool any;           /* loss accepted, not yet read: any write of this cell's past may be here */
    uint64_t any_until; /* reads that began before may return any */
    /* What the store keeps even when both memories are lost. */
    uint64_t acked;   /* the latest write that was acknowledged; 0: none */
    uint64_t durable; /* one that certainly is on the store: nothing older may come back */
    uint64_t zero_id; /* the zeroing that began or ended last */
    uint32_t zeroing; /* zeroings under way */
};

struct volume {
    uint64_t size;
    uint64_t flushed; /* all that was acknowledged before this time is durable */
    struct cell *cells;
};

struct read {
    uint64_t from;
    bool over;
};

struct oracle {
    uint64_t clock;
    uint32_t cell_shift; /* a cell has 1 << cell_shift bytes */
    uint32_t volume_count;
    struct volume volumes[VOLUME_LIMIT];
    struct oracle_write *writes; /* by id; writes[0] is the volumes' beginning */
    uint64_t write_count, write_room;
    struct oracle_fact *facts;
    uint64_t fact_count, fact_room;
    struct read *reads; /* by token - first_read, oldest first */
    uint64_t first_read, read_count, read_room;
    char sentence[512];
};

static uint32_t cell_bytes(const struct oracle *oracle)
{
    return 1u << oracle->cell_shift;
}

static void *grow(void *memory, size_t size)
{
    void *grown = realloc(memory, size);
    CHECK(grown != NULL);
    return grown;
}

struct oracle *oracle_create(uint32_t cell_bytes, uint32_t volume_count, const uint64_t *size_bytes)
{
    CHECK(cell_bytes >= ORACLE_CELL_LEAST);
    CHECK(cell_bytes <= ORACLE_CELL_MOST);
    CHECK((cell_bytes & (cell_bytes - 1)) == 0);
    struct oracle *oracle = calloc(1, sizeof *oracle);
    CHECK(oracle != NULL);
    oracle->volume_count = volume_count;
    oracle->cell_shift = (uint32_t)__builtin_ctz(cell_bytes);
    for (uint32_t v = 0; v < volume_count; v++) {
        CHECK(size_bytes[v] % cell_bytes == 0);
        oracle->volumes[v].size = size_bytes[v];
        oracle->volumes[v].cells = calloc(size_bytes[v] >> oracle->cell_shift, sizeof(struct cell));
        CHECK(oracle->volumes[v].cells != NULL);
    }
    oracle->write_room = 1024;
    oracle->writes = grow(NULL, oracle->write_room * sizeof *oracle->writes);
    oracle->writes[0] = (struct oracle_write){.zero = true};
    oracle->write_count = 1;
    return oracle;
}

void oracle_destroy(struct oracle *oracle)
{
    for (uint32_t v = 0; v < oracle->volume_count; v++) {
        struct volume *volume = &oracle->volumes[v];
        for (uint64_t c = 0; c < volume->size >> oracle->cell_shift; c++)
            free(volume->cells[c].list);
        free(volume->cells);
    }
    free(oracle->writes);
    free(oracle->facts);
    free(oracle->reads);
    free(oracle);
}

/* ---- a cell's candidates ---- */

/* A cell without a list holds exactly the zeros of the beginning; this makes them a list to change.
 */
static void cell_materialize(struct cell *cell)
{
    if (cell->count > 0)
        return;
    if (cell->room == 0) {
        cell->room = 2;
        cell->list = grow(NULL, cell->room * sizeof *cell->list);
    }
    cell->list[0] = (struct candidate){.id = 0, .latest = 0, .gone = NEVER};
    cell->count = 1;
}

static uint64_t oldest_read(const struct oracle *oracle)
{
    return oracle->read_count > 0 ? oracle->reads[0].from : oracle->clock;
}

/* Forget those that went before the oldest read under way began. */
static void cell_forget(const struct oracle *oracle, struct cell *cell)
{
    uint64_t oldest = oldest_read(oracle);
    uint16_t kept = 0;
    for (uint16_t i = 0; i < cell->count; i++)
        if (cell->list[i].gone > oldest)
            cell->list[kept++] = cell->list[i];
    CHECK(kept > 0);
    cell->count = kept;
}

static void cell_add(struct cell *cell, uint64_t id)
{
    if (cell->count == cell->room) {
        CHECK(cell->room < UINT16_MAX / 2);
        cell->room = (uint16_t)(cell->room * 2);
        cell->list = grow(cell->list, cell->room * sizeof *cell->list);
    }
    cell->list[cell->count++] = (struct candidate){.id = id, .latest = NEVER, .gone = NEVER};
}

/* `id` certainly is on the store. Of two that overlap in time either may be the later one: the one
 * that ended first says less. */
static void cell_durable(const struct oracle *oracle, struct cell *cell, uint64_t id)
{
    if (oracle->writes[id].begin >= oracle->writes[cell->durable].begin)
        cell->durable = id;
}

/* A flush since it was acknowledged made the last one durable. */
static void cell_catch_up(const struct oracle *oracle, struct cell *cell, uint64_t flushed)
{
    if (cell->acked != 0 && oracle->writes[cell->acked].end < flushed)
        cell_durable(oracle, cell, cell->acked);
}

/* After an accepted loss: may the cell hold `id`? Not when that was certainly over before what is
 * durable began. */
static bool cell_may_return_to(const struct oracle *oracle, struct cell *cell, uint64_t flushed,
                               uint64_t from, uint64_t id)
{
    cell_catch_up(oracle, cell, flushed);
    if (cell->durable == 0 || (id == 0 && cell->zeroing > 0))
        return true;
    if (oracle->writes[cell->durable].end > from)
        return true; /* the read began before it was over */
    uint64_t last = id != 0 ? id : cell->zero_id;
    return oracle->writes[last].end >= oracle->writes[cell->durable].begin;
}

static void cell_end(struct oracle *oracle, struct cell *cell, uint64_t id, bool known)
{
    const struct oracle_write *write = &oracle->writes[id];
    if (write->zero) {
        cell->zero_id = id;
        cell->zeroing--;
    }
    if (known) {
        cell_catch_up(oracle, cell, oracle->volumes[write->volume].flushed);
        cell->acked = id;
    }
    for (uint16_t i = 0; i < cell->count; i++) {
        struct candidate *candidate = &cell->list[i];
        if (candidate->id == id)
            candidate->latest = min_u64(candidate->latest, oracle->clock);
        else if (known && candidate->gone == NEVER && candidate->latest < write->begin)
            candidate->gone = oracle->clock;
    }
    if (known && cell->any) {
        cell->any = false;
        cell->any_until = oracle->clock;
    }
    cell_forget(oracle, cell);
}

/* ---- writes ---- */

/* It may be what its cells hold. */
static void write_join(struct oracle *oracle, uint64_t id)
{
    const struct oracle_write *write = &oracle->writes[id];
    struct cell *cells = oracle->volumes[write->volume].cells;
    uint64_t end = (write->offset + write->length) >> oracle->cell_shift;
    for (uint64_t c = write->offset >> oracle->cell_shift; c < end; c++) {
        cell_materialize(&cells[c]);
        cell_add(&cells[c], id);
        if (write->zero) {
            cells[c].zero_id = id;
            cells[c].zeroing++;
        }
    }
}

uint64_t oracle_write_begin(struct oracle *oracle, uint8_t volume, uint64_t offset, uint64_t length,
                            bool zero)
{
    CHECK(volume < oracle->volume_count);
    CHECK(offset % cell_bytes(oracle) == 0);
    CHECK(length % cell_bytes(oracle) == 0);
    CHECK(offset + length <= oracle->volumes[volume].size);
    oracle->clock++;
    if (oracle->write_count == oracle->write_room) {
        oracle->write_room *= 2;
        oracle->writes = grow(oracle->writes, oracle->write_room * sizeof *oracle->writes);
    }
    uint64_t id = oracle->write_count++;
    oracle->writes[id] = (struct oracle_write){.begin = oracle->clock,
                                               .end = NEVER,
                                               .offset = offset,
                                               .length = length,
                                               .volume = volume,
                                               .zero = zero};
    write_join(oracle, id);
    return id;
}

void oracle_write_revive(struct oracle *oracle, uint64_t id)
{
    struct oracle_write *write = &oracle->writes[id];
    CHECK(write->never);
    write->begin = ++oracle->clock;
    write->end = NEVER;
    write->unknown = write->never = false;
    write_join(oracle, id);
}

/* The words of a cell: the write, and others that tie it to this place, each different. */
static void stamp(uint64_t *words, uint32_t count, uint64_t id, uint8_t volume, uint64_t cell)
{
    uint64_t place = (cell << 8 | volume) * 0x9E3779B97F4A7C15u;
    uint64_t mixed = id * 0xBF58476D1CE4E5B9u + place;
    words[0] = id;
    for (uint32_t i = 1; i < count; i++)
        words[i] = mixed ^ (uint64_t)i << 32;
}

void oracle_fill(const struct oracle *oracle, uint64_t id, void *data)
{
    const struct oracle_write *write = &oracle->writes[id];
    CHECK(!write->zero);
    for (uint64_t at = 0; at < write->length; at += cell_bytes(oracle)) {
        uint64_t words[ORACLE_CELL_MOST / sizeof(uint64_t)];
        uint32_t count = cell_bytes(oracle) / sizeof(uint64_t);
        stamp(words, count, id, write->volume, (write->offset + at) >> oracle->cell_shift);
        memcpy((uint8_t *)data + at, words, cell_bytes(oracle));
    }
}

static void add_fact(struct oracle *oracle, uint64_t id, uint64_t offset, uint64_t length)
{
    if (oracle->fact_count == oracle->fact_room) {
        oracle->fact_room = oracle->fact_room ? oracle->fact_room * 2 : 1024;
        oracle->facts = grow(oracle->facts, oracle->fact_room * sizeof *oracle->facts);
    }
    oracle->facts[oracle->fact_count++] =
        (struct oracle_fact){.id = id, .at = oracle->clock, .offset = offset, .length = length};
}

static void write_end(struct oracle *oracle, uint64_t id, bool known)
{
    CHECK(id > 0);
    CHECK(id < oracle->write_count);
    struct oracle_write *write = &oracle->writes[id];
    CHECK(write->end == NEVER);
    oracle->clock++;
    write->end = oracle->clock;
    write->unknown = !known;
    if (known)
        add_fact(oracle, id, write->offset, write->length);
    struct cell *cells = oracle->volumes[write->volume].cells;
    uint64_t end = (write->offset + write->length) >> oracle->cell_shift;
    for (uint64_t c = write->offset >> oracle->cell_shift; c < end; c++)
        cell_end(oracle, &cells[c], id, known);
}

void oracle_write_done(struct oracle *oracle, uint64_t id)
{
    write_end(oracle, id, true);
}

void oracle_write_durable(struct oracle *oracle, uint64_t id)
{
    const struct oracle_write *write = &oracle->writes[id];
    CHECK(write->end != NEVER);
    struct cell *cells = oracle->volumes[write->volume].cells;
    uint64_t end = (write->offset + write->length) >> oracle->cell_shift;
    for (uint64_t c = write->offset >> oracle->cell_shift; c < end; c++)
        cell_durable(oracle, &cells[c], id);
}

uint64_t oracle_now(const struct oracle *oracle)
{
    return oracle->clock;
}

void oracle_flushed(struct oracle *oracle, uint8_t volume, uint64_t began)
{
    uint64_t *flushed = &oracle->volumes[volume].flushed;
    *flushed = max_u64(*flushed, began);
}

void oracle_write_unknown(struct oracle *oracle, uint64_t id)
{
    write_end(oracle, id, false);
}

void oracle_write_never(struct oracle *oracle, uint64_t id)
{
    CHECK(id > 0);
    CHECK(id < oracle->write_count);
    struct oracle_write *write = &oracle->writes[id];
    CHECK(write->end == NEVER);
    write->end = ++oracle->clock;
    write->unknown = write->never = true;
    bool zero = write->zero;
    struct cell *cells = oracle->volumes[write->volume].cells;
    uint64_t end = (write->offset + write->length) >> oracle->cell_shift;
    for (uint64_t c = write->offset >> oracle->cell_shift; c < end; c++) {
        struct cell *cell = &cells[c];
        uint16_t kept = 0;
        cell->zeroing -= zero;
        for (uint16_t i = 0; i < cell->count; i++)
            if (cell->list[i].id != id)
                cell->list[kept++] = cell->list[i];
        CHECK(kept > 0);
        cell->count = kept;
    }
}

/* ---- reads ---- */

uint64_t oracle_read_begin(struct oracle *oracle)
{
    oracle->clock++;
    if (oracle->read_count == oracle->read_room) {
        oracle->read_room = oracle->read_room ? oracle->read_room * 2 : 64;
        oracle->reads = grow(oracle->reads, oracle->read_room * sizeof *oracle->reads);
    }
    oracle->reads[oracle->read_count++] = (struct read){.from = oracle->clock};
    return oracle->first_read + oracle->read_count - 1;
}

/* Which write put these bytes here? Returns false when none could have. */
static bool decode(const struct oracle *oracle, uint8_t volume, uint64_t cell, const uint8_t *data,
                   uint64_t *id)
{
    uint64_t words[ORACLE_CELL_MOST / sizeof(uint64_t)];
    uint64_t expected[ORACLE_CELL_MOST / sizeof(uint64_t)];
    uint32_t count = cell_bytes(oracle) / sizeof(uint64_t);
    memcpy(words, data, cell_bytes(oracle));
    *id = 0;
    uint64_t any = 0;
    for (uint32_t i = 0; i < count; i++)
        any |= words[i];
    if (any == 0)
        return true;
    stamp(expected, count, words[0], volume, cell);
    if (memcmp(words, expected, cell_bytes(oracle)) != 0)
        return false;
    if (words[0] == 0 || words[0] >= oracle->write_count)
        return false;
    *id = words[0];
    const struct oracle_write *write = &oracle->writes[*id];
    uint64_t at = cell * cell_bytes(oracle);
    return !write->zero && write->volume == volume && at >= write->offset &&
           at < write->offset + write->length;
}

static bool same_value(const struct oracle *oracle, uint64_t candidate, uint64_t id)
{
    return candidate == id || (id == 0 && oracle->writes[candidate].zero);
}

static const char *describe(const struct oracle *oracle, uint64_t id, char *to, size_t size)
{
    const struct oracle_write *write = &oracle->writes[id];
    if (id == 0)
        snprintf(to, size, "the zeros it began with");
    else
        snprintf(to, size, "%s %llu (%s)", write->zero ? "zeroing" : "write",
                 (unsigned long long)id,
                 write->end == NEVER ? "under way"
                 : write->unknown    ? "outcome unknown"
                                     : "acknowledged");
    return to;
}

static const char *blame(struct oracle *oracle, uint8_t volume, uint64_t cell, bool readable,
                         uint64_t id, const uint8_t *data)
{
    char name[96];
    const struct cell *state = &oracle->volumes[volume].cells[cell];
    int used = snprintf(oracle->sentence, sizeof oracle->sentence, "volume %u, byte %llu holds ",
                        volume, (unsigned long long)(cell * cell_bytes(oracle)));
    size_t left = sizeof oracle->sentence - (size_t)used;
    char *to = oracle->sentence + used;
    if (readable)
        used = snprintf(to, left, "%s, but only these are possible:",
                        id == 0 ? "zeros" : describe(oracle, id, name, sizeof name));
    else
        used = snprintf(to, left,
                        "bytes that nobody wrote there (%02x %02x %02x %02x...), possible are:",
                        data[0], data[1], data[2], data[3]);
    for (uint16_t i = 0; i < state->count && (size_t)used < left; i++) {
        if (state->list[i].gone != NEVER)
            continue;
        to += used;
        left -= (size_t)used;
        used = snprintf(to, left, " [%s]", describe(oracle, state->list[i].id, name, sizeof name));
    }
    if (state->count == 0)
        snprintf(to + used, left - (size_t)used, " [the zeros it began with]");
    return oracle->sentence;
}

/* The cell was read as `id` by a read that began at `from`: false when that cannot be. */
static bool cell_read(struct oracle *oracle, uint8_t volume, struct cell *cell, uint64_t from,
                      uint64_t id)
{
    uint64_t flushed = oracle->volumes[volume].flushed;
    bool found = false;
    unsigned matches = 0;
    if (cell->count == 0 && !cell->any && cell->any_until <= from)
        return id == 0; /* never written: the common case, without a list */
    cell_materialize(cell);
    for (uint16_t i = 0; i < cell->count; i++) {
        struct candidate *candidate = &cell->list[i];
        if (candidate->gone <= from || !same_value(oracle, candidate->id, id))
            continue;
        found = true;
        matches++;
    }
    /* After an accepted loss it may be a value from before; zeros do not say whose they are. */
    bool past = (cell->any || cell->any_until > from) &&
                cell_may_return_to(oracle, cell, flushed, from, id);
    if (past && found && id == 0)
        matches++;
    if (cell->any) {
        /* What was lost shows now, for good: this value, and whatever is still being written. */
        cell->any = false;
        cell->any_until = oracle->clock;
        if (past && (!found || id == 0)) {
            cell_add(cell, id);
            cell->list[cell->count - 1].latest = oracle->clock;
            found = true;
        }
    } else if (!found) {
        return past;
    }
    if (!found)
        return false;
    uint64_t before = from;
    for (uint16_t i = 0; i < cell->count && matches == 1; i++) {
        struct candidate *candidate = &cell->list[i];
        if (!same_value(oracle, candidate->id, id) || candidate->gone <= from)
            continue;
        candidate->latest = min_u64(candidate->latest, oracle->clock);
        before = max_u64(before, oracle->writes[candidate->id].begin);
    }
    bool left = false;
    for (uint16_t i = 0; i < cell->count; i++) {
        struct candidate *candidate = &cell->list[i];
        if (!same_value(oracle, candidate->id, id) && candidate->gone == NEVER &&
            candidate->latest < before)
            candidate->gone = oracle->clock;
        left = left || candidate->gone == NEVER;
    }
    if (left)
        cell_forget(oracle, cell);
    return left;
}

static uint64_t read_close(struct oracle *oracle, uint64_t token)
{
    CHECK(token >= oracle->first_read);
    CHECK(token - oracle->first_read < oracle->read_count);
    struct read *read = &oracle->reads[token - oracle->first_read];
    CHECK(!read->over);
    read->over = true;
    uint64_t from = read->from;
    uint64_t gone = 0;
    while (gone < oracle->read_count && oracle->reads[gone].over)
        gone++;
    oracle->first_read += gone;
    oracle->read_count -= gone;
    memmove(oracle->reads, oracle->reads + gone, oracle->read_count * sizeof *oracle->reads);
    return from;
}

const char *oracle_read_end(struct oracle *oracle, uint64_t token, uint8_t volume, uint64_t offset,
                            uint64_t length, const void *data)
{
    CHECK(volume < oracle->volume_count);
    CHECK(offset % cell_bytes(oracle) == 0);
    CHECK(length % cell_bytes(oracle) == 0);
    CHECK(offset + length <= oracle->volumes[volume].size);
    oracle->clock++;
    uint64_t from = read_close(oracle, token);
    if (!data)
        return NULL;
    for (uint64_t at = 0; at < length; at += cell_bytes(oracle)) {
        const uint8_t *bytes = (const uint8_t *)data + at;
        uint64_t cell = (offset + at) >> oracle->cell_shift;
        uint64_t id;
        bool readable = decode(oracle, volume, cell, bytes, &id);
        if (!readable || !cell_read(oracle, volume, &oracle->volumes[volume].cells[cell], from, id))
            return blame(oracle, volume, cell, readable, id, bytes);
        if (id != 0 && oracle->writes[id].end == NEVER) /* nobody was told of it yet */
            add_fact(oracle, id, offset + at, cell_bytes(oracle));
    }
    return NULL;
}

/* ---- loss and the end ---- */

void oracle_accept_loss(struct oracle *oracle, const bool volumes[VOLUME_LIMIT])
{
    oracle->clock++;
    for (uint32_t v = 0; v < oracle->volume_count; v++) {
        if (!volumes[v])
            continue;
        struct volume *volume = &oracle->volumes[v];
        for (uint64_t c = 0; c < volume->size >> oracle->cell_shift; c++) {
            struct cell *cell = &volume->cells[c];
            if (cell->count == 0)
                continue;
            cell_catch_up(oracle, cell, volume->flushed);
            cell->acked = 0; /* a flush to come cannot make durable what is lost */
            cell->any = true;
        }
    }
}

/* Not older than write `id`: itself, or one that was not over when it began. */
static bool is_no_older(const struct oracle *oracle, const struct cell *cell, uint64_t id,
                        uint64_t found)
{
    uint64_t begin = oracle->writes[id].begin;
    if (cell->any || cell->count == 0 || cell->any_until > begin)
        return true;
    if (found != 0)
        return found == id || oracle->writes[found].end >= begin;
    return oracle->writes[id].zero || cell->zeroing > 0 ||
           oracle->writes[cell->zero_id].end >= begin;
}

const char *oracle_check_durable(struct oracle *oracle, uint64_t id, const void *data)
{
    const struct oracle_write *write = &oracle->writes[id];
    for (uint64_t at = 0; at < write->length; at += cell_bytes(oracle)) {
        const uint8_t *bytes = (const uint8_t *)data + at;
        uint64_t cell = (write->offset + at) >> oracle->cell_shift;
        uint64_t found;
        bool readable = decode(oracle, write->volume, cell, bytes, &found);
        const struct cell *state = &oracle->volumes[write->volume].cells[cell];
        if (!readable || !is_no_older(oracle, state, id, found))
            return blame(oracle, write->volume, cell, readable, found, bytes);
    }
    return NULL;
}

const char *oracle_check_store(struct oracle *oracle, uint8_t volume, const void *data)
{
    for (uint64_t cell = 0; cell < oracle->volumes[volume].size >> oracle->cell_shift; cell++) {
        const uint8_t *bytes = (const uint8_t *)data + cell * cell_bytes(oracle);
        uint64_t id;
        bool readable = decode(oracle, volume, cell, bytes, &id);
        struct cell *state = &oracle->volumes[volume].cells[cell];
        oracle->clock++;
        if (!readable || !cell_read(oracle, volume, state, oracle->clock, id))
            return blame(oracle, volume, cell, readable, id, bytes);
    }
    return NULL;
}

/* ---- for cuts.c ---- */

const struct oracle_write *oracle_write_of(const struct oracle *oracle, uint64_t id)
{
    CHECK(id < oracle->write_count);
    return &oracle->writes[id];
}

uint64_t oracle_fact_count(const struct oracle *oracle)
{
    return oracle->fact_count;
}

const struct oracle_fact *oracle_fact(const struct oracle *oracle, uint64_t number)
{
    CHECK(number < oracle->fact_count);
    return &oracle->facts[number];
}

bool oracle_decode(const struct oracle *oracle, uint8_t volume, uint64_t cell, const uint8_t *data,
                   uint64_t *id)
{
    return decode(oracle, volume, cell, data, id);
}

bool oracle_no_older(const struct oracle *oracle, uint8_t volume, uint64_t cell, uint64_t id,
                     uint64_t found)
{
    return is_no_older(oracle, &oracle->volumes[volume].cells[cell], id, found);
}

void oracle_adopt(struct oracle *oracle, uint8_t volume, const uint8_t *bytes, const uint8_t *vague)
{
    oracle->clock++;
    for (uint64_t c = 0; c < oracle->volumes[volume].size >> oracle->cell_shift; c++) {
        struct cell *cell = &oracle->volumes[volume].cells[c];
        uint64_t at = c << oracle->cell_shift, id;
        bool readable = decode(oracle, volume, c, bytes + at, &id);
        CHECK(readable);
        CHECK(cell->zeroing == 0);
        cell_materialize(cell);
        cell->list[0] = (struct candidate){.id = id, .latest = oracle->clock, .gone = NEVER};
        cell->count = 1;
        cell->any = vague[at / SECTOR_SIZE] != 0;
        cell->any_until = cell->any ? oracle->clock : 0;
        cell->acked = cell->durable = 0;
    }
}
