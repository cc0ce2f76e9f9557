/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Destaging: which dirty slots go to the store, joined to what runs, and when the store is told to
 * make them durable.
 *
 *     destage_pick      oldest dirty slot, with the dirty neighbours of its page: one write of up
 * to 1 MiB destage_written   the store took the write; the run waits for a flush destage_flush one
 * flush for every run that waits, on one store destage_done      the caller makes the slots clean
 * and gives the run back
 *
 * A run that fails is taken apart again: its slots stay dirty, go to LIST_FAILED, and are tried
 * alone after a pause that doubles. Nothing here sends anything to the peer: a destage costs no
 * message (claims 1, 9). */

#ifndef DESTAGE_DESTAGE_H
#define DESTAGE_DESTAGE_H

#include "backend/backend.h"
#include "cache/slot.h"
#include "destage/generation.h"
#include "volume/volume.h"

enum run_state { RUN_FREE, RUN_WRITING, RUN_WRITTEN, RUN_FLUSHING };

struct run {
    enum run_state state;
    bool suspect; /* RUN_WRITING: a flush of the store failed meanwhile */
    uint8_t store;
    uint32_t count;
    uint64_t offset_bytes; /* on the store */
    uint64_t length_bytes;
    uint32_t slots[STORE_IO_PAGES];
    struct iovec iov[STORE_IO_PAGES];
};

struct destage_store {
    bool flushing;
    uint32_t writing, written; /* runs in each state */
};

struct destage {
    struct run *runs;
    uint32_t run_count;
    uint32_t write_limit; /* runs in RUN_WRITING at a time, over all stores */
    uint32_t writing;
    uint32_t used;      /* runs not RUN_FREE */
    uint32_t free_hint; /* where to look for a free run first */
    struct destage_store stores[STORE_LIMIT];
    struct generations generations;
    const struct volume_config *volumes;
    const struct store_config *store_configs;
    uint64_t retry_at_us; /* when LIST_FAILED is tried again; UINT64_MAX when it is empty */
    uint64_t retry_pause_us;
    /* counters for status */
    uint64_t store_writes, pages_written, flushes, errors;
};

/* The caller then points `volumes` and `store_configs` at the configuration. */
void destage_create(struct destage *destage, struct arena *arena, uint32_t write_limit);

/* Runs that a write_limit makes. */
uint32_t destage_run_count(uint32_t write_limit);

/* The next run from `list`, its slots DESTAGING and off the list, RUN_WRITING; NULL when there is
 * none that may go, or no room for one more. With `solo` unset only mirrored slots go (invariant
 * 6). *fill is set to a slot that must first be filled from the store, because the store's blocks
 * are larger than what is valid of it; else to NULL. */
struct run *destage_pick(struct destage *destage, struct slot_table *table, enum slot_list_id list,
                         bool solo, struct slot **fill);

/* The store took the run's write. */
void destage_written(struct destage *destage, struct run *run);

/* Whether a flush of `store` should be asked for now; `eager` when someone waits for its runs,
 * `wanted` when someone needs it whatever the runs. If so its RUN_WRITTEN runs become RUN_FLUSHING.
 * Never two at a time on one store: an error is reported to only one of them, and the other's
 * success would be believed. */
bool destage_flush(struct destage *destage, uint32_t store, bool wanted, bool eager);

/* The flush of `store` ended. The caller then deals with each RUN_FLUSHING run: destage_done() or
 * destage_failed(). */
void destage_flushed(struct destage *destage, uint32_t store);

/* The run is over; its slots have been dealt with. */
void destage_done(struct destage *destage, struct run *run);

/* The run's write or flush failed: its slots are DIRTY again, on LIST_FAILED. */
void destage_failed(struct destage *destage, struct slot_table *table, struct run *run,
                    uint64_t now_us);

/* A flush of `store` failed. Nobody can say which of the writes before it the store has lost, nor
 * will a later flush: every run that it took and has not made durable is to be written again, also
 * those still on their way. */
void destage_flush_failed(struct destage *destage, struct slot_table *table, uint32_t store,
                          uint64_t now_us);

/* A slot that could not be filled from the store: DIRTY, to LIST_FAILED. */
void destage_defer(struct destage *destage, struct slot_table *table, struct slot *slot,
                   uint64_t now_us);

/* Everything is forgotten: no run is under way at the store any more and no slot is dirty. */
void destage_reset(struct destage *destage);

/* When it is time: the slots of LIST_FAILED are candidates again, each alone. */
void destage_retry(struct destage *destage, struct slot_table *table, uint64_t now_us);

/* A write that had failed has succeeded. */
void destage_recovered(struct destage *destage, struct slot_table *table);

#endif
