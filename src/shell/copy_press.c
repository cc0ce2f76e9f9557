/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See copy_press.h. */

#include "shell/copy_press.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

static struct copy_press_place *of_work(struct work *work)
{
    return (struct copy_press_place *)((char *)work - offsetof(struct copy_press_place, work));
}

static void run(struct work *work)
{
    struct copy_press_place *place = of_work(work);
    place->packed_bytes = 0;
    if (!atomic_load(&place->press->dropped))
        place->packed_bytes = copy_zstd_pack(place->press->compressor, place->pieces,
                                             place->piece_count, place->length_bytes, place->bytes);
}

static void done(struct work *work)
{
    struct copy_press_place *place = of_work(work);
    struct copy_press *press = place->press;
    press->busy--;
    if (!press->dropping) {
        press->user->pressed(press->context, (uint32_t)(place - press->places), place->bytes,
                             place->packed_bytes);
        return;
    }
    if (press->busy > 0)
        return;
    press->dropping = false;
    press->user->emptied(press->context);
}

void copy_press_give(struct copy_press *press, uint32_t index, const struct iovec *pieces,
                     uint32_t piece_count, uint32_t length_bytes)
{
    CHECK(index < COPY_WINDOW);
    CHECK(!press->dropping);
    struct copy_press_place *place = &press->places[index];
    place->pieces = pieces;
    place->piece_count = piece_count;
    place->length_bytes = length_bytes;
    press->busy++;
    atomic_store(&press->dropped, false);
    worker_give(&press->worker, &place->work);
}

bool copy_press_drop(struct copy_press *press)
{
    if (press->busy == 0)
        return true;
    press->dropping = true;
    atomic_store(&press->dropped, true);
    return false;
}

const char *copy_press_start(struct copy_press *press, struct loop *loop,
                             const struct copy_press_user *user, void *context)
{
    memset(press, 0, sizeof *press);
    press->user = user;
    press->context = context;
    press->compressor = copy_zstd_compressor();
    if (!press->compressor)
        return "no memory for zstd";
    press->memory = mmap(NULL, (size_t)COPY_WINDOW * COPY_ZSTD_MOST_BYTES, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (press->memory == MAP_FAILED)
        return strerror(errno);
    for (uint32_t i = 0; i < COPY_WINDOW; i++)
        press->places[i] =
            (struct copy_press_place){.work = {.run = run, .done = done},
                                      .press = press,
                                      .bytes = press->memory + (size_t)i * COPY_ZSTD_MOST_BYTES};
    return worker_start(&press->worker, loop);
}

void copy_press_end(struct copy_press *press)
{
    worker_end(&press->worker);
    munmap(press->memory, (size_t)COPY_WINDOW * COPY_ZSTD_MOST_BYTES);
    ZSTD_freeCCtx(press->compressor);
}
