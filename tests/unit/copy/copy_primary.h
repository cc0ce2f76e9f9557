/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The primary pair of the little world in copy_world.h: what array/ has to do for a sender, on
 * slots that hold numbers. */

#ifndef TESTS_COPY_PRIMARY_H
#define TESTS_COPY_PRIMARY_H

static struct half *peer_of(const struct half *half)
{
    return &w->half[half == &w->half[0]];
}

static uint32_t slot_of(const struct half *half, const struct mslot *slot)
{
    return (uint32_t)(slot - half->slot);
}

static bool is_current(const struct half *half, uint32_t index)
{
    const struct mslot *slot = &half->slot[index];
    return half->current[slot->volume][slot->page] == index;
}

static void free_slot(struct half *half, uint32_t index)
{
    struct mslot *slot = &half->slot[index];
    MUST(slot->used);
    MUST(!pins_has(&half->pins, index));
    if (is_current(half, index))
        half->current[slot->volume][slot->page] = NO_INDEX;
    *slot = (struct mslot){0};
}

/* The page has a newer slot, or none: this one lives on only while it is pinned. */
static void put_aside(struct half *half, uint32_t index)
{
    struct mslot *slot = &half->slot[index];
    if (!pins_has(&half->pins, index)) {
        free_slot(half, index);
        return;
    }
    if (is_current(half, index))
        half->current[slot->volume][slot->page] = NO_INDEX;
    slot->superseded = true;
}

static struct mslot *take_slot(struct half *half, uint8_t volume, uint64_t page)
{
    for (uint32_t i = 0; i < OWN; i++) {
        struct mslot *slot = &half->slot[i];
        if (slot->used)
            continue;
        *slot = (struct mslot){.used = true, .volume = volume, .page = page};
        half->current[volume][page] = i;
        return slot;
    }
    return NULL;
}

static void say(struct half *half, const struct mheader *header)
{
    if (!half->streaming)
        return;
    MUST(half->queue_to - half->queue_from < QUEUE);
    half->queue[half->queue_to++ % QUEUE] = *header;
}

static void acknowledge(uint32_t write, uint8_t volume, uint64_t page, uint8_t sectors)
{
    w->acked_at[write] = w->write_count;
    for (int s = 0; s < PAGE_SECTORS; s++) {
        uint32_t *newest = &w->newest_acked[volume][page][s];
        if (sectors & 1 << s)
            *newest = max_u32(*newest, write);
    }
}

static void destage(struct half *half, uint32_t index)
{
    struct mslot *slot = &half->slot[index];
    for (int s = 0; s < PAGE_SECTORS; s++) {
        if (slot->dirty & 1 << s)
            w->store[slot->volume][slot->page][s] = slot->cell[s];
    }
    TELL_PAGE(slot->volume, slot->page, "%d: destage slot %u dirty %x cell %u\n",
              (int)(half - w->half), index, slot->dirty, slot->cell[0]);
    slot->dirty = 0;
}

/* What a slot's header says, when its tag is `cycle`. */
static void say_write(struct half *half, struct mslot *slot, uint8_t touched, uint64_t cycle,
                      uint32_t write)
{
    struct mheader header = {.type = M_WRITE,
                             .slot = slot_of(half, slot),
                             .write = write,
                             .volume = slot->volume,
                             .page = slot->page,
                             .fresh = !slot->mirrored,
                             .sectors = touched,
                             .touched = touched,
                             .cycle = cycle};
    if (header.fresh)
        header.sectors |= slot->dirty | sender_owed(&half->sender, header.slot);
    MUST((header.sectors & ~slot->valid) == 0);
    memcpy(header.cell, slot->cell, sizeof header.cell);
    slot->mirrored = true;
    say(half, &header);
    slot->said = half->queue_to;
}

static void drop_session(struct half *half)
{
    half->session = false;
    half->base_count = 0;
}

/* At most `count` slots of the cycle that was confirmed last are given back. */
static void give_back(struct half *half, uint32_t count)
{
    struct sender_popped popped;
    for (; half->sender.over != 0 && count > 0; count--) {
        if (!sender_pop(&half->sender, &popped))
            return;
        MUST(half->slot[popped.slot].used);
        if (half->slot[popped.slot].superseded)
            free_slot(half, popped.slot);
    }
}

static void confirm(struct half *half, uint64_t cycle)
{
    give_back(half, UINT32_MAX);
    MUST(sender_confirm(&half->sender, cycle));
    give_back(half, chance(50) ? UINT32_MAX : (uint32_t)chance(50));
}

/* What the sender gives back; `how` is what began it. */
static void half_drain(struct half *half, enum sender_drain how)
{
    struct sender *sender = &half->sender;
    struct sender_popped popped;
    while (sender_pop(sender, &popped)) {
        struct mslot *slot = &half->slot[popped.slot];
        MUST(slot->used);
        uint32_t heir = half->current[slot->volume][slot->page];
        if (how == DRAIN_RESTART) {
            enum sender_fate fate =
                sender_keep(sender, &popped, slot->volume, slot->page, slot->superseded, heir);
            w->given_up += fate == SENDER_DROPPED;
            if (fate == SENDER_KEPT)
                continue;
        } else if (how == DRAIN_FALL) {
            regions_mark(&sender->regions, slot->volume, slot->page, 1);
        }
        if (slot->superseded)
            free_slot(half, popped.slot);
    }
}

static void fall(struct half *half, bool tell)
{
    struct sender *sender = &half->sender;
    struct mheader header = {.type = M_FALL, .term = sender->term};
    if (sender->mode == SENDER_BITMAP)
        return;
    w->falls++;
    TELL("%d: falls, open %lu\n", (int)(half - w->half), sender->open);
    give_back(half, UINT32_MAX);
    sender_fall(sender);
    half_drain(half, DRAIN_FALL);
    drop_session(half);
    half->fall_said = tell && half->streaming;
    if (tell)
        say(half, &header);
}

/* Whether the peer has all that was said up to there, or there is none that could. */
static bool is_known(const struct half *half, uint32_t said)
{
    return !half->streaming || half->queue_from >= said;
}

static bool being_zeroed(const struct half *half, uint8_t volume, uint64_t page)
{
    return half->zeroing.count > 0 && half->zeroing.volume == volume &&
           page >= half->zeroing.page && page - half->zeroing.page < half->zeroing.count;
}

static void host_writes(struct half *half, uint8_t volume, uint64_t page, uint8_t sectors)
{
    struct sender *sender = &half->sender;
    uint32_t index = half->current[volume][page];
    struct mslot *slot = index == NO_INDEX ? NULL : &half->slot[index];
    if (being_zeroed(half, volume, page))
        return;
    bool frozen = slot != NULL && sender_frozen(sender, index);
    bool left_over =
        slot != NULL && pins_has(&half->pins, index) && pins_at(&half->pins, index)->tag;
    if (slot == NULL || frozen || left_over || (index >= OWN && half->streaming)) {
        struct mslot *heir = take_slot(half, volume, page);
        if (heir == NULL) {
            if (slot != NULL)
                half->current[volume][page] = index;
            return;
        }
        if (slot != NULL && !left_over) {
            memcpy(heir->cell, slot->cell, sizeof heir->cell);
            heir->valid = slot->valid;
            heir->dirty = slot->dirty;
            sender_inherit(sender, index, slot_of(half, heir));
        }
        if (slot != NULL)
            put_aside(half, index);
        half->current[volume][page] = slot_of(half, heir);
        slot = heir;
    }
    uint32_t write = ++w->write_count;
    for (int s = 0; s < PAGE_SECTORS; s++) {
        if (sectors & 1 << s)
            slot->cell[s] = half->view.cell[volume][page][s] = write;
    }
    slot->valid |= sectors;
    slot->dirty |= sectors;
    uint64_t cycle = sender_written(sender, slot_of(half, slot), volume, page, sectors);
    TELL_PAGE(volume, page, "%d: write %u sectors %x slot %u cycle %lu\n", (int)(half - w->half),
              write, sectors, slot_of(half, slot), cycle);
    if (half->streaming)
        say_write(half, slot, sectors, cycle, write);
    if (!half->mirrors) { /* serving alone: durable first */
        destage(half, slot_of(half, slot));
        acknowledge(write, volume, page, sectors);
    }
    if (sender_over_budget(sender))
        fall(half, true);
}

static void announce(struct half *half)
{
    struct mheader header = {.type = M_ZEROING,
                             .volume = half->zeroing.volume,
                             .page = half->zeroing.page,
                             .count = half->zeroing.count};
    say(half, &header);
    half->zeroing.said = half->queue_to;
}

static void host_discards(struct half *half, uint8_t volume, uint64_t page, uint64_t count)
{
    if (half->zeroing.count > 0)
        return;
    half->zeroing = (struct mzeroing){.volume = volume, .page = page, .count = count};
    announce(half);
}

/* False: one of its pages is being read. From here on hosts may find zeros. */
static bool store_zeroes(const struct half *half)
{
    const struct mzeroing *range = &half->zeroing;
    for (uint32_t i = 0; i < half->base_count; i++) {
        const struct mbase *base = &half->base[i];
        if (!base->ready && base->volume == range->volume &&
            base->first < range->page + range->count && range->page < base->first + base->count)
            return false;
    }
    for (uint64_t p = range->page; p < range->page + range->count; p++) {
        memset(w->store[range->volume][p], 0, sizeof(cells));
        w->newest_zero[range->volume][p] = w->write_count;
    }
    return true;
}

/* The store has zeroed the range: its pages go, and the peer hears of it. */
static void range_done(struct half *half)
{
    const struct mzeroing range = half->zeroing;
    struct mheader header = {.type = M_RANGE,
                             .volume = range.volume,
                             .page = range.page,
                             .count = range.count,
                             .write = w->write_count + 1};
    if (!sender_range(&half->sender, range.volume, range.page, range.count))
        return;
    half->zeroing.count = 0;
    w->ranges++;
    w->write_count++;
    TELL("%d: range %u of %u: %lu + %lu\n", (int)(half - w->half), header.write, range.volume,
         range.page, range.count);
    if (half->sender.mode == SENDER_CYCLES)
        header.cycle = half->sender.open;
    for (uint64_t p = range.page; p < range.page + range.count; p++) {
        uint32_t index = half->current[range.volume][p];
        w->newest_zero[range.volume][p] = header.write;
        memset(half->view.cell[range.volume][p], 0, sizeof(cells));
        memset(w->store[range.volume][p], 0, sizeof(cells)); /* nothing was destaged meanwhile */
        if (index == NO_INDEX)
            continue;
        if (pins_has(&half->pins, index) && !pins_at(&half->pins, index)->tag &&
            !sender_frozen(&half->sender, index))
            sender_unpin(&half->sender, index);
        half->slot[index].dirty = 0;
        put_aside(half, index);
    }
    say(half, &header);
    for (uint64_t p = range.page; p < range.page + range.count && !half->mirrors; p++)
        acknowledge(header.write, range.volume, p, 0xFF);
}

static void range_step(struct half *half)
{
    struct mzeroing *range = &half->zeroing;
    if (range->count == 0 || !is_known(half, range->said) || w->write_count + 1 >= WRITES)
        return;
    if (!range->stored && !store_zeroes(half))
        return;
    range->stored = true;
    if (chance(70))
        range_done(half);
}

/* A destaged page gives up its slot. */
static void evict(struct half *half)
{
    uint32_t index = below(OWN);
    struct mslot *slot = &half->slot[index];
    if (!half->in || !slot->used || slot->superseded || pins_has(&half->pins, index) ||
        !is_known(half, slot->said) || half->owner[slot->volume] != half - w->half)
        return;
    struct mheader header = {.type = M_DROP, .slot = index};
    destage(half, index);
    if (slot->mirrored)
        say(half, &header);
    free_slot(half, index);
}

/* The open cycle is about to be closed. */
static void remember_the_cut(struct half *half)
{
    struct view *cut = &w->cut[half - w->half][half->sender.open % CUTS];
    *cut = half->view;
    cut->term = half->sender.term;
    cut->cycle = half->sender.open;
}

/* ---- the change stream ---- */

static void release_image(struct half *half, uint32_t index)
{
    if (!half->slot[index].used)
        return;
    sender_untag(&half->sender, index);
    free_slot(half, index);
}

static void apply_write(struct half *half, const struct mheader *header)
{
    uint32_t index = OWN + header->slot;
    struct mslot *slot = &half->slot[index];
    if (header->fresh) {
        uint32_t holder = half->current[header->volume][header->page];
        if (holder != NO_INDEX && holder >= OWN)
            release_image(half, holder);
        else if (holder != NO_INDEX)
            put_aside(half, holder);
        release_image(half, index);
        *slot = (struct mslot){.used = true, .volume = header->volume, .page = header->page};
        half->current[header->volume][header->page] = index;
    }
    MUST(slot->used && slot->page == header->page && slot->volume == header->volume);
    for (int s = 0; s < PAGE_SECTORS; s++) {
        if (header->sectors & 1 << s)
            slot->cell[s] = header->cell[s];
    }
    slot->valid |= header->sectors;
    slot->dirty |= header->sectors;
    sender_tagged(&half->sender, index, header->volume, header->page, header->cycle,
                  header->sectors);
    if (header->write != 0 && half->in)
        acknowledge(header->write, header->volume, header->page, header->touched);
}

static void apply_range(struct half *half, const struct mheader *header)
{
    for (uint64_t page = header->page; page < header->page + header->count; page++) {
        uint32_t index = half->current[header->volume][page];
        if (index != NO_INDEX && index >= OWN)
            release_image(half, index);
        else if (index != NO_INDEX)
            put_aside(half, index);
        if (header->write != 0 && half->in)
            acknowledge(header->write, header->volume, page, 0xFF);
    }
    MUST(sender_range_tagged(&half->sender, header->volume, header->page, header->count,
                             header->cycle));
}

static void apply(struct half *half, const struct mheader *header)
{
    struct sender *sender = &half->sender;
    struct half *from = peer_of(half);
    switch (header->type) {
    case M_WRITE:
        apply_write(half, header);
        break;
    case M_ZEROING:
        half->announced = (struct mzeroing){
            .volume = header->volume, .page = header->page, .count = header->count};
        break;
    case M_RANGE:
        apply_range(half, header);
        if (header->write != 0)
            half->announced.count = 0;
        break;
    case M_DROP:
        if (half->slot[OWN + header->slot].used)
            MUST(sender_waits(sender, OWN + header->slot) == 0);
        release_image(half, OWN + header->slot);
        break;
    case M_MARK:
        if (sender->mode == SENDER_BITMAP)
            break; /* this half fell, and the leader has not heard of it */
        MUST(sender_may_close(sender, header->cycle, header->halves));
        remember_the_cut(half);
        TELL("%d: mark %lu\n", (int)(half - w->half), sender->open);
        sender_close(sender, w->now_us, 0, header->halves);
        break;
    case M_HELD:
        if (header->cycle > sender->confirmed && sender->mode == SENDER_CYCLES)
            MUST(sender_peer_held(sender, header->cycle, header->done));
        break;
    case M_CONFIRM:
        if (sender->mode == SENDER_BITMAP)
            break;
        confirm(half, header->cycle);
        break;
    case M_BEGIN:
        sender_begin(sender, w->now_us, header->term, header->cycle, false);
        break;
    case M_RESTART:
        if (sender->mode == SENDER_CYCLES) {
            give_back(half, UINT32_MAX);
            sender_restart(sender, header->term, false);
            half_drain(half, DRAIN_RESTART);
            drop_session(half);
        }
        break;
    case M_FALL:
        from->fall_said = false;
        if (sender_fall_concerns(sender, header->term))
            fall(half, false);
        break;
    case M_MOVE:
        sender_moved(sender, header->volume);
        sender_own(sender, header->volume, true);
        half->owner[header->volume] = (uint8_t)(half - w->half);
        from->owner[header->volume] = (uint8_t)(half - w->half);
        from->moving[header->volume] = false;
        memcpy(half->view.cell[header->volume], from->view.cell[header->volume],
               sizeof half->view.cell[0]);
        half->view.tenure[header->volume] = ++w->tenure;
        TELL("%d: has %u now\n", (int)(half - w->half), header->volume);
        w->moves++;
        break;
    case M_JOIN:
        if (header->term != 0)
            sender_join(sender, w->now_us, header->term, header->first, header->confirmed,
                        header->open, header->generation);
        else
            memcpy(sender->generation, header->generation, sizeof header->generation);
        for (uint32_t v = 0; v < VOLUMES; v++)
            memcpy(sender->regions.maps[v].bits, from->sender.regions.maps[v].bits, 8);
        for (uint32_t v = 0; v < VOLUMES; v++)
            sender->regions.maps[v].marked = from->sender.regions.maps[v].marked;
        break;
    case M_PAIR:
        half->in = half->streaming = half->mirrors = true;
        w->returns++;
        break;
    }
}

static bool stream_step(struct half *half)
{
    if (half->queue_from == half->queue_to)
        return false;
    struct mheader header = half->queue[half->queue_from++ % QUEUE];
    apply(peer_of(half), &header);
    return true;
}

/* ---- cycles ---- */

static void cut(struct half *half)
{
    struct sender *sender = &half->sender;
    if (!half->in || !sender_cut_due(sender, w->now_us))
        return;
    struct mheader header = {
        .type = M_MARK, .cycle = sender->open, .halves = sender->paired ? 2 : 1};
    TELL("%d: cut %lu halves %u\n", (int)(half - w->half), sender->open, header.halves);
    remember_the_cut(half);
    sender_close(sender, w->now_us, w->now_us, header.halves);
    say(half, &header);
}

static void report(struct half *half)
{
    struct mheader header = {.type = M_HELD};
    while ((header.cycle = sender_held_due(&half->sender, &header.done)) != 0)
        say(half, &header);
}

static void rise(struct half *half)
{
    struct sender *sender = &half->sender;
    struct half *other = peer_of(half);
    if (!half->in || sender->mode != SENDER_BITMAP || half->fall_said ||
        (other->in && !sender->leader))
        return;
    if (other->alive && !other->in)
        return; /* it is being filled */
    struct mheader header = {.type = M_BEGIN};
    sender->leader = true;
    header.term = w->epoch << 16 | ++w->term;
    header.cycle = max_u64(sender->open, w->second[w->main].receiver.promoted) + 1;
    TELL("%d: begin term %lu cycle %lu\n", (int)(half - w->half), header.term, header.cycle);
    sender_begin(sender, w->now_us, header.term, header.cycle, true);
    sender_pair(sender, other->in);
    say(half, &header);
}

/* ---- sessions ---- */

static void attach(struct half *half)
{
    struct sender *sender = &half->sender;
    struct copy_state state;
    if (half->session || !half->in || sender->mode != SENDER_CYCLES)
        return;
    receiver_state(&w->second[w->main].receiver, &state);
    if (half->memory_known != state.memory && half->memory_known != 0 && sender->leader) {
        struct mheader header = {.type = M_RESTART, .term = w->epoch << 16 | ++w->term};
        if (peer_of(half)->alive && !peer_of(half)->in)
            return;
        w->restarts++;
        give_back(half, UINT32_MAX);
        sender_restart(sender, header.term, !sender->paired);
        half_drain(half, DRAIN_RESTART);
        drop_session(half);
        say(half, &header);
    }
    half->memory_known = state.memory;
    half->session = true;
    half->session_number++;
    sender_attach(sender, 1 + below(8));
}

static void put_cells(uint8_t **data, struct record *record, const cells cell)
{
    uint8_t *from = *data;
    for (int s = 0; s < PAGE_SECTORS; s++) {
        if (!(record->sectors & 1 << s))
            continue;
        memset(*data, 0, SECTOR_SIZE);
        put_u32(*data, cell[s]);
        *data += SECTOR_SIZE;
    }
    record->crc = crc32c(from, (size_t)(*data - from));
}

static uint32_t encode_pages(struct half *half, const struct sender_batch *batch, uint8_t *records,
                             uint8_t **data)
{
    uint32_t slot = batch->first;
    for (uint32_t i = 0; i < batch->count; i++, slot = pins_next(&half->pins, slot)) {
        const struct pin *pin = pins_at(&half->pins, slot);
        const struct mslot *from = &half->slot[slot];
        struct record record = {.type = RECORD_PAGE,
                                .volume = from->volume,
                                .sectors = pin->sectors,
                                .generation = pin->generation,
                                .page = from->page};
        MUST((pin->sectors & ~from->valid) == 0);
        put_cells(data, &record, from->cell);
        record_put(records + i * COPY_RECORD_SIZE, &record);
    }
    return batch->count;
}

/* As many pages that were read for the cycle as the batch says. */
static uint32_t encode_base(struct half *half, const struct sender_batch *batch, uint8_t *records,
                            uint8_t **data)
{
    uint32_t made = 0;
    for (uint32_t i = 0; i < half->base_count && made < batch->count; i++) {
        struct mbase *base = &half->base[i];
        while (base->ready && base->cycle == batch->cycle && base->count > 0 &&
               made < batch->count) {
            struct record record = {.type = RECORD_PAGE,
                                    .flags = RECORD_BASE,
                                    .volume = base->volume,
                                    .sectors = 0xFF,
                                    .page = base->first + base->count - 1};
            put_cells(data, &record, base->cell[--base->count]);
            record_put(records + made++ * COPY_RECORD_SIZE, &record);
        }
    }
    uint32_t left = 0;
    for (uint32_t i = 0; i < half->base_count; i++) {
        if (half->base[i].count > 0)
            half->base[left++] = half->base[i];
    }
    half->base_count = left;
    MUST(made == batch->count);
    w->base_sent += made;
    return made;
}

static uint32_t encode_other(struct half *half, const struct sender_batch *batch, uint8_t *records)
{
    struct record record = {0};
    uint32_t count = 0;
    if (batch->kind == SEND_END) {
        record = (struct record){.type = RECORD_END,
                                 .generation = batch->halves,
                                 .page = batch->pages,
                                 .count = batch->base,
                                 .crc = batch->ranges};
    } else if (batch->kind == SEND_PROMOTE) {
        record = (struct record){.type = RECORD_PROMOTE,
                                 .flags = batch->consistent ? RECORD_CONSISTENT : 0};
    } else {
        const struct sender *sender = &half->sender;
        for (const struct sender_range *range = sender_range_at(sender, batch->cycle, 0);
             range != NULL; range = sender_range_at(sender, batch->cycle,
                                                    (uint32_t)(range - sender->ranges) + 1)) {
            record = (struct record){.type = RECORD_ZERO,
                                     .volume = range->volume,
                                     .generation = range->generation,
                                     .page = range->page,
                                     .count = range->count};
            record_put(records + count++ * COPY_RECORD_SIZE, &record);
        }
        return count;
    }
    record_put(records, &record);
    return 1;
}

static uint8_t scratch[COPY_BATCH_BYTES];

/* One batch leaves, if there is one and a place for it. What was sent before under its number must
 * be the same now. */
static bool send(struct half *half)
{
    struct sender_batch batch;
    struct flight *flight = NULL;
    for (int i = 0; i < FLIGHTS && flight == NULL; i++)
        flight = w->flight[i].bytes == NULL ? &w->flight[i] : NULL;
    if (!half->session || flight == NULL || !sender_next_batch(&half->sender, &batch))
        return false;
    uint8_t *data = scratch + COPY_HEAD_SIZE + COPY_RECORDS * COPY_RECORD_SIZE, *from = data;
    uint8_t *records = scratch + COPY_HEAD_SIZE;
    uint32_t at = batch.number % COPY_WINDOW;
    bool again = half->sent[at].bytes != NULL &&
                 get_u64(half->sent[at].bytes + 32) == half->sender.term &&
                 get_u64(half->sent[at].bytes + 48) == batch.number;
    uint32_t length = half->sent[at].length;
    if (!again || batch.kind != SEND_BASE) {
        uint32_t count = batch.kind == SEND_PAGES  ? encode_pages(half, &batch, records, &data)
                         : batch.kind == SEND_BASE ? encode_base(half, &batch, records, &data)
                                                   : encode_other(half, &batch, records);
        MUST(count == batch.count || batch.kind == SEND_END);
        uint32_t size = (uint32_t)(data - from);
        memmove(records + count * COPY_RECORD_SIZE, from, size);
        struct copy_head head = {.half = (uint8_t)(half - w->half),
                                 .term = half->sender.term,
                                 .cycle = batch.cycle,
                                 .number = batch.number,
                                 .first = half->sender.term_first,
                                 .wall_us = batch.wall_us,
                                 .record_count = count,
                                 .data_bytes = size};
        memcpy(head.group, group_id, COPY_ID_SIZE);
        record_put_head(scratch, &head);
        length = COPY_HEAD_SIZE + count * COPY_RECORD_SIZE + size;
        if (again) {
            MUST(half->sent[at].length == length);
            MUST(memcmp(half->sent[at].bytes, scratch, length) == 0);
        } else {
            free(half->sent[at].bytes);
            half->sent[at].bytes = malloc(length);
            memcpy(half->sent[at].bytes, scratch, length);
            half->sent[at].length = length;
        }
    }
    *flight = (struct flight){.bytes = malloc(length),
                              .length = length,
                              .half = (uint8_t)(half - w->half),
                              .session = half->session_number};
    memcpy(flight->bytes, half->sent[at].bytes, length);
    return true;
}

static void answer(uint8_t index, uint32_t session, uint64_t number)
{
    struct half *half = &w->half[index];
    if (!half->session || half->session_number != session)
        return;
    struct mheader header = {.type = M_CONFIRM, .cycle = sender_answered(&half->sender, number)};
    if (header.cycle == 0)
        return;
    confirm(half, header.cycle);
    say(half, &header);
}

/* A message arrives; sometimes it stays on the way as well, to come again. */
static bool deliver(bool faults)
{
    uint32_t from = below(FLIGHTS);
    for (uint32_t i = 0; i < FLIGHTS; i++) {
        struct flight *flight = &w->flight[(from + i) % FLIGHTS];
        if (flight->bytes == NULL)
            continue;
        bool done = second_receive(flight);
        if (done && !(faults && chance(10))) {
            free(flight->bytes);
            flight->bytes = NULL;
        }
        return done;
    }
    return false;
}

/* ---- marked regions ---- */

static void read_page(const struct half *half, uint8_t volume, uint64_t page, cells to)
{
    uint32_t index = half->current[volume][page];
    memcpy(to, w->store[volume][page], sizeof(cells));
    for (int s = 0; s < PAGE_SECTORS && index != NO_INDEX; s++) {
        if (half->slot[index].valid & 1 << s)
            to[s] = half->slot[index].cell[s];
    }
}

static void base_start(struct half *half)
{
    struct mbase *base = &half->base[half->base_count];
    if (!half->in || half->base_count == BASES || half->zeroing.count > 0 ||
        !sender_base_next(&half->sender, 1 + below(16), &base->volume, &base->first, &base->count,
                          &base->cycle))
        return;
    base->ready = false;
    half->base_count++;
    for (uint32_t i = 0; i < base->count; i++)
        read_page(half, base->volume, base->first + i, base->cell[i]);
}

static bool base_end(struct half *half)
{
    for (uint32_t i = 0; i < half->base_count; i++) {
        struct mbase *base = &half->base[i];
        if (base->ready)
            continue;
        for (uint32_t p = 0; p < base->count && chance(50); p++)
            read_page(half, base->volume, base->first + p, base->cell[p]);
        base->ready = true;
        sender_base_read(&half->sender, base->cycle, base->count);
        return true;
    }
    return false;
}

/* ---- controllers come and go ---- */

static void half_create(struct half *half)
{
    const struct sender_config config = {
        .volume_count = VOLUMES, .budget_pages = BUDGET, .base_pages = 64, .shortest_us = 2};
    struct arena measure = arena_over(NULL, 0);
    struct pins pins;
    pins_create(&pins, &measure, SLOTS);
    sender_create(&half->sender, &measure, &half->pins, &config, w->page_counts);
    free(half->memory);
    for (int i = 0; i < COPY_WINDOW; i++)
        free(half->sent[i].bytes);
    uint32_t session = half->session_number;
    memset(half, 0, sizeof *half);
    half->session_number = session;
    half->alive = true;
    half->memory = calloc(1, measure.used);
    struct arena arena = arena_over(half->memory, measure.used);
    pins_create(&half->pins, &arena, SLOTS);
    sender_create(&half->sender, &arena, &half->pins, &config, w->page_counts);
    assert_int_equal(arena.used, measure.used);
    memset(half->current, 0xFF, sizeof half->current);
}

/* What the survivor has of a volume from the time when it last owned it. The store may have zeroed
 * an announced range of it, so pages there are not believed, and marked instead. */
static void forget_what_may_be_zeroed(struct half *half)
{
    const struct mzeroing *range = &half->announced;
    for (uint64_t p = range->page; p < range->page + range->count; p++) {
        uint32_t index = half->current[range->volume][p];
        if (index == NO_INDEX || half->slot[index].dirty != 0)
            continue;
        sender_unpin(&half->sender, index);
        free_slot(half, index);
    }
    if (range->count > 0)
        sender_mark(&half->sender, range->volume, range->page, range->count);
    half->announced.count = 0;
}

static void half_dies(struct half *half)
{
    struct half *left = peer_of(half);
    uint8_t self = (uint8_t)(left - w->half);
    if (!half->alive || !left->in)
        return;
    bool served = half->in;
    half->alive = half->in = half->streaming = half->session = false;
    half->queue_from = half->queue_to;
    left->queue_from = left->queue_to;
    left->streaming = left->fall_said = left->mirrors = false;
    TELL("%d: dies\n", (int)(half - w->half));
    w->takeovers += served;
    w->epoch++;
    bool owned[VOLUMES];
    for (int v = 0; v < VOLUMES; v++) {
        owned[v] = left->owner[v] == self && !left->moving[v];
        if (left->owner[v] != self)
            sender_moved(&left->sender, (uint8_t)v);
        left->owner[v] = self;
        left->moving[v] = left->giving[v] = false;
        sender_own(&left->sender, (uint8_t)v, true);
    }
    if (left->sender.mode == SENDER_CYCLES) {
        give_back(left, UINT32_MAX);
        sender_restart(&left->sender, w->epoch << 16, true);
        half_drain(left, DRAIN_RESTART);
    } else {
        sender_lead(&left->sender);
    }
    drop_session(left);
    forget_what_may_be_zeroed(left);
    for (uint32_t i = 0; i < SLOTS; i++) {
        struct mslot *slot = &left->slot[i];
        slot->mirrored = false;
        if (slot->used && !slot->superseded)
            destage(left, i);
    }
    /* What was not mirrored is durable now, and told to its hosts. */
    for (int v = 0; v < VOLUMES; v++) {
        left->view.tenure[v] = ++w->tenure;
        for (int p = 0; p < PAGES; p++) {
            cells cell;
            read_page(left, (uint8_t)v, (uint64_t)p, cell);
            if (!owned[v])
                memcpy(left->view.cell[v][p], cell, sizeof cell);
            for (int s = 0; s < PAGE_SECTORS; s++) {
                if (cell[s] != 0 && w->acked_at[cell[s]] == 0)
                    acknowledge(cell[s], (uint8_t)v, (uint64_t)p, (uint8_t)(1 << s));
            }
        }
    }
}

/* The survivor's image half must be free: what it has there moves to its own half. */
static bool clear_image(struct half *half)
{
    give_back(half, UINT32_MAX);
    for (uint32_t i = OWN; i < SLOTS; i++) {
        struct mslot *slot = &half->slot[i];
        if (!slot->used)
            continue;
        if (!pins_has(&half->pins, i) && slot->dirty == 0) {
            free_slot(half, i);
            continue;
        }
        bool current = is_current(half, i);
        uint32_t newest = half->current[slot->volume][slot->page];
        struct mslot *to = take_slot(half, slot->volume, slot->page);
        half->current[slot->volume][slot->page] = newest;
        if (to == NULL)
            return false;
        struct mslot copy = *slot;
        uint32_t index = slot_of(half, to);
        sender_relocate(&half->sender, i, index);
        free_slot(half, i);
        *to = copy;
        if (current)
            half->current[copy.volume][copy.page] = index;
    }
    return true;
}

/* A new start of `half`: it is filled, and paired by the last header of that. */
static void half_returns(struct half *half)
{
    struct half *from = peer_of(half);
    struct sender *sender = &from->sender;
    if (half->alive || !from->in || !clear_image(from))
        return;
    half_create(half);
    memcpy(half->owner, from->owner, sizeof half->owner);
    from->streaming = true;
    struct mheader header = {.type = M_JOIN};
    if (sender->mode == SENDER_CYCLES)
        header = (struct mheader){.type = M_JOIN,
                                  .term = sender->term,
                                  .first = sender->term_first,
                                  .confirmed = sender->confirmed,
                                  .open = sender->open};
    memcpy(header.generation, sender->generation, sizeof header.generation);
    apply(half, &header);
    for (uint32_t i = 0; i < SENDER_RANGES; i++) {
        const struct sender_range *range = &sender->ranges[i];
        header = (struct mheader){.type = M_RANGE,
                                  .volume = range->volume,
                                  .page = range->page,
                                  .count = range->count,
                                  .cycle = range->cycle};
        if (range->cycle != 0)
            say(from, &header);
    }
    for (uint32_t i = 0; i < OWN; i++) {
        struct mslot *slot = &from->slot[i];
        const struct pin *pin = pins_at(&from->pins, i);
        if (!slot->used || slot->superseded)
            continue;
        slot->mirrored = false;
        if (slot->dirty != 0 || pins_has(&from->pins, i)) {
            uint64_t cycle = 0;
            for (uint64_t c = sender->confirmed + 1; c <= sender->open; c++) {
                if (pins_has(&from->pins, i) && c % COPY_RING == pin->ring)
                    cycle = c;
            }
            say_write(from, slot, slot->valid, cycle, 0);
        }
    }
    if (from->zeroing.count > 0)
        announce(from);
    header = (struct mheader){.type = M_PAIR};
    say(from, &header);
    from->mirrors = true; /* nothing said from here on counts before the peer has it */
    sender_pair(sender, true);
}

static bool may_move(const struct half *half, uint8_t volume)
{
    if (!half->in || half->owner[volume] != half - w->half || !half->giving[volume] ||
        !peer_of(half)->in || half->moving[volume] ||
        (half->zeroing.count > 0 && half->zeroing.volume == volume))
        return false;
    for (uint32_t i = 0; i < OWN; i++) {
        if (half->slot[i].used && half->slot[i].volume == volume &&
            !is_known(half, half->slot[i].said))
            return false;
    }
    return true;
}

/* A volume goes to the other half, once the peer has all that was said about it. */
static void give_away(struct half *half, uint8_t volume)
{
    struct mheader header = {.type = M_MOVE, .volume = volume};
    if (!may_move(half, volume))
        return;
    for (uint32_t i = 0; i < SLOTS; i++) {
        if (!half->slot[i].used || half->slot[i].volume != volume)
            continue;
        if (!half->slot[i].superseded)
            destage(half, i);
        half->slot[i].mirrored = false;
    }
    half->giving[volume] = false;
    half->moving[volume] = true;
    sender_moved(&half->sender, volume);
    sender_own(&half->sender, volume, false); /* or it would read what the other writes */
    say(half, &header);
}

#endif
