/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Performs store operations with io_uring. It goes on after short reads and writes, fills with
 * zeros what lies past the end of a file, and writes zeros itself where a store cannot. It never
 * changes the order of operations (the core asks only for those that may run side by side), never
 * caches, and never reports an operation that is still under way. */

#include "shell/store.h"

#include "shell/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { LOG_EVERY_US = 10 * 1000 * 1000 };

static const uint8_t zeros[STORE_ZERO_CHUNK] __attribute__((aligned(PAGE_SIZE_BYTES)));

/* How an operation is being tried. A TRIM or ZERO begins with the cheapest way that the store is
 * believed to have. */
enum way { WAY_PLAIN, WAY_PUNCH, WAY_ZERO_RANGE, WAY_WRITE_ZEROS };

/* One operation. `iov` is the core's until a short transfer: then it is a copy of ours, in
 * `own_iov`. */
struct store_work {
    struct op op;
    struct stores *stores;
    struct store *store;
    struct store_work *next;
    uint32_t io;
    enum store_op kind;
    enum way way;
    uint64_t offset_bytes, length_bytes; /* what is left */
    uint64_t not_after_us;
    const struct iovec *iov;
    uint32_t iov_count;
    struct iovec *own_iov;
    struct iovec zero_iov[STORE_ZERO_PIECES];
    struct io_uring_sqe *sqe; /* while pending */
    uint32_t retries;
    bool started;    /* some of it was submitted before */
    bool taken_back; /* the SQE was made a NOP by stores_before_submit() */
};

/* ---- opening ---- */

static uint32_t file_alignment(int descriptor)
{
#ifdef STATX_DIOALIGN
    struct statx facts;
    if (statx(descriptor, "", AT_EMPTY_PATH, STATX_DIOALIGN, &facts) == 0 &&
        (facts.stx_mask & STATX_DIOALIGN) && facts.stx_dio_offset_align > SECTOR_SIZE)
        return PAGE_SIZE_BYTES;
#endif
    return SECTOR_SIZE;
}

/* A kernel from before STATX_DIOALIGN does not say: one read of a single sector tells. */
static bool sector_read_works(int descriptor)
{
    static uint8_t page[PAGE_SIZE_BYTES] __attribute__((aligned(PAGE_SIZE_BYTES)));
    return pread(descriptor, page, SECTOR_SIZE, 0) >= 0 || errno != EINVAL;
}

static bool device_can_punch(dev_t device)
{
    char path[128];
    snprintf(path, sizeof path, "/sys/dev/block/%u:%u/queue/write_zeroes_max_bytes", major(device),
             minor(device));
    FILE *file = fopen(path, "re");
    unsigned long long most = 0;
    if (file) {
        if (fscanf(file, "%llu", &most) != 1)
            most = 0;
        fclose(file);
    }
    return most > 0;
}

static const char *device_facts(struct store *store, const struct stat *facts, char why[TRACE_LINE])
{
    int block_size = 0;
    if (ioctl(store->descriptor, BLKSSZGET, &block_size) < 0 ||
        ioctl(store->descriptor, BLKGETSIZE64, &store->size_bytes) < 0) {
        snprintf(why, TRACE_LINE, "the device does not tell its size: %s", strerror(errno));
        return why;
    }
    if (block_size != SECTOR_SIZE && block_size != PAGE_SIZE_BYTES) {
        snprintf(why, TRACE_LINE, "the device has blocks of %d bytes; 512 or 4096 are supported",
                 block_size);
        return why;
    }
    store->block_device = true;
    store->config.block_size_bytes = (uint32_t)block_size;
    store->can_punch = device_can_punch(facts->st_rdev);
    store->config.can_zero = store->can_punch;
    return NULL;
}

static void file_facts(struct store *store, const struct stat *facts)
{
    store->size_bytes = (uint64_t)facts->st_size;
    store->config.block_size_bytes = SECTOR_SIZE;
    if (store->direct &&
        (file_alignment(store->descriptor) > SECTOR_SIZE || !sector_read_works(store->descriptor)))
        store->config.block_size_bytes = PAGE_SIZE_BYTES;
    /* A hole past the end of the file changes nothing, but the file system says whether it could.
     */
    off_t past = (off_t)(store->size_bytes + PAGE_SIZE_BYTES) & ~(off_t)(PAGE_SIZE_BYTES - 1);
    store->can_punch = fallocate(store->descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                 past, PAGE_SIZE_BYTES) == 0;
    store->config.can_zero = store->can_punch;
}

static int open_descriptor(struct store *store, const struct config_store *config)
{
    int flags = O_RDWR | O_CLOEXEC;
    if (config->io != CONFIG_IO_BUFFERED) {
        store->descriptor = open(config->path, flags | O_DIRECT);
        store->direct = store->descriptor >= 0;
        if (store->direct || config->io == CONFIG_IO_DIRECT || errno != EINVAL)
            return store->descriptor;
        log_say(LOG_WARNING,
                "store %s: %s does not support direct I/O; it is used through the page cache, "
                "and flushed",
                config->name, config->path);
    }
    store->descriptor = open(config->path, flags);
    return store->descriptor;
}

const char *stores_open(struct stores *stores, const struct config_store *config,
                        char why[TRACE_LINE])
{
    CHECK(stores->count < STORE_LIMIT);
    struct store *store = &stores->store[stores->count];
    memset(store, 0, sizeof *store);
    snprintf(store->name, sizeof store->name, "%s", config->name);
    struct stat facts;
    if (open_descriptor(store, config) < 0 || fstat(store->descriptor, &facts) < 0) {
        snprintf(why, TRACE_LINE, "cannot open %.100s%s: %s", config->path,
                 config->io == CONFIG_IO_DIRECT ? " for direct I/O" : "", strerror(errno));
        return why;
    }
    stores->count++;
    if (S_ISBLK(facts.st_mode)) {
        const char *wrong = device_facts(store, &facts, why);
        if (wrong)
            return wrong;
    } else if (S_ISREG(facts.st_mode)) {
        file_facts(store, &facts);
    } else {
        snprintf(why, TRACE_LINE, "%.100s is neither a file nor a block device", config->path);
        return why;
    }
    store->can_zero_range = true;
    return NULL;
}

void stores_init(struct stores *stores, struct loop *loop,
                 void (*done)(void *context, uint32_t io, enum store_result result), void *context)
{
    memset(stores, 0, sizeof *stores);
    stores->loop = loop;
    stores->done = done;
    stores->context = context;
}

void stores_close(struct stores *stores)
{
    CHECK(stores->under_way == 0);
    for (uint32_t i = 0; i < stores->count; i++)
        close(stores->store[i].descriptor);
    stores->count = 0;
    while (stores->idle) {
        struct store_work *work = stores->idle;
        stores->idle = work->next;
        free(work);
    }
}

/* ---- performing ---- */

static struct store_work *work_take(struct stores *stores)
{
    struct store_work *work = stores->idle;
    if (work) {
        stores->idle = work->next;
    } else {
        CHECK(stores->allocated < STORE_OPS_LIMIT);
        work = malloc(sizeof *work);
        CHECK(work);
        stores->allocated++;
    }
    stores->under_way++;
    return work;
}

static void store_note(struct store *store, const struct store_work *work, int result,
                       uint64_t now_us)
{
    static const char *const words[] = {"read", "write", "flush", "zero", "trim"};
    if (result >= 0) {
        store->failing = false;
        return;
    }
    store->errors++;
    snprintf(store->error, sizeof store->error, "%s at byte %llu: %s", words[work->kind],
             (unsigned long long)work->offset_bytes, strerror(-result));
    if (!store->failing || now_us - store->logged_us >= LOG_EVERY_US) {
        log_say(LOG_ERROR, "store %s: %s", store->name, store->error);
        store->logged_us = now_us;
    }
    store->failing = true;
}

static void work_finish(struct store_work *work, enum store_result result)
{
    struct stores *stores = work->stores;
    uint32_t io = work->io;
    free(work->own_iov);
    work->next = stores->idle;
    stores->idle = work;
    stores->under_way--;
    stores->done(stores->context, io, result);
}

static void prepare_zeros(struct store_work *work, struct io_uring_sqe *sqe)
{
    uint64_t left = min_u64(work->length_bytes, STORE_ZERO_CHUNK * STORE_ZERO_PIECES);
    unsigned count = 0;
    for (; left > 0; count++) {
        uint64_t piece = min_u64(left, STORE_ZERO_CHUNK);
        work->zero_iov[count] =
            (struct iovec){.iov_base = (void *)(uintptr_t)zeros, .iov_len = piece};
        left -= piece;
    }
    io_uring_prep_writev(sqe, work->store->descriptor, work->zero_iov, count, work->offset_bytes);
}

static void work_submit(struct store_work *work)
{
    struct stores *stores = work->stores;
    int descriptor = work->store->descriptor;
    struct io_uring_sqe *sqe = loop_sqe(stores->loop);
    switch (work->way) {
    case WAY_PUNCH:
        io_uring_prep_fallocate(sqe, descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                (off_t)work->offset_bytes, (off_t)work->length_bytes);
        break;
    case WAY_ZERO_RANGE:
        io_uring_prep_fallocate(sqe, descriptor, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
                                (off_t)work->offset_bytes, (off_t)work->length_bytes);
        break;
    case WAY_WRITE_ZEROS:
        prepare_zeros(work, sqe);
        break;
    case WAY_PLAIN:
        if (work->kind == STORE_READ)
            io_uring_prep_readv(sqe, descriptor, work->iov, work->iov_count, work->offset_bytes);
        else if (work->kind == STORE_WRITE)
            io_uring_prep_writev(sqe, descriptor, work->iov, work->iov_count, work->offset_bytes);
        else
            io_uring_prep_fsync(sqe, descriptor, IORING_FSYNC_DATASYNC);
        break;
    }
    loop_own(sqe, &work->op);
    work->sqe = sqe;
    work->next = stores->pending;
    stores->pending = work;
}

void stores_before_submit(struct stores *stores)
{
    if (!stores->pending)
        return;
    uint64_t now_us = loop_clock_us();
    for (struct store_work *work = stores->pending; work; work = work->next) {
        if (now_us > work->not_after_us) {
            io_uring_prep_nop(work->sqe);
            loop_own(work->sqe, &work->op);
            work->taken_back = true;
        } else {
            work->started = true;
        }
        work->sqe = NULL;
    }
    stores->pending = NULL;
}

/* Drop the first `count` bytes of what is left. */
static void work_advance(struct store_work *work, uint64_t count)
{
    work->offset_bytes += count;
    work->length_bytes -= count;
    if (work->way != WAY_PLAIN || work->length_bytes == 0)
        return;
    if (!work->own_iov) {
        work->own_iov = malloc(work->iov_count * sizeof *work->own_iov);
        CHECK(work->own_iov);
        memcpy(work->own_iov, work->iov, work->iov_count * sizeof *work->own_iov);
        work->iov = work->own_iov;
    }
    struct iovec *iov = work->own_iov + (work->iov - work->own_iov);
    while (count >= iov->iov_len && work->iov_count > 0) {
        count -= iov->iov_len;
        iov++;
        work->iov_count--;
    }
    CHECK(work->iov_count > 0);
    iov->iov_base = (uint8_t *)iov->iov_base + count;
    iov->iov_len -= count;
    work->iov = iov;
}

static void zero_rest(const struct store_work *work)
{
    for (uint32_t i = 0; i < work->iov_count; i++)
        memset(work->iov[i].iov_base, 0, work->iov[i].iov_len);
}

/* Whether a short read ended where the file does. */
static bool at_end_of_file(const struct store_work *work)
{
    struct stat facts;
    return !work->store->block_device && fstat(work->store->descriptor, &facts) == 0 &&
           work->offset_bytes >= (uint64_t)facts.st_size;
}

/* The store does not know the way that was tried: the next one, or false when there is none. */
static bool next_way(struct store_work *work)
{
    if (work->way == WAY_PUNCH) {
        work->store->can_punch = false;
        work->way = work->store->can_zero_range ? WAY_ZERO_RANGE : WAY_WRITE_ZEROS;
        return true;
    }
    if (work->way == WAY_ZERO_RANGE) {
        work->store->can_zero_range = false;
        work->way = WAY_WRITE_ZEROS;
        return true;
    }
    return false;
}

static void work_failed(struct store_work *work, int result)
{
    if ((result == -EINTR || result == -EAGAIN) && work->retries++ < STORE_RETRY_LIMIT) {
        work_submit(work);
        return;
    }
    if ((result == -EOPNOTSUPP || result == -ENOSYS || result == -EINVAL) && next_way(work)) {
        work_submit(work);
        return;
    }
    store_note(work->store, work, result, work->stores->loop->now_us);
    work_finish(work, result == -ENOSPC || result == -EDQUOT ? STORE_NO_SPACE : STORE_ERROR);
}

static void work_done(struct op *op, int result, unsigned flags)
{
    struct store_work *work = (struct store_work *)op;
    if (work->taken_back) {
        work_finish(work, work->started ? STORE_ERROR : STORE_NOT_SENT);
        return;
    }
    if (result < 0) {
        work_failed(work, result);
        return;
    }
    bool transfers =
        work->way == WAY_WRITE_ZEROS || (work->way == WAY_PLAIN && work->kind != STORE_FLUSH);
    if (transfers) {
        CHECK((uint64_t)result <= work->length_bytes);
        if (result == 0 && work->kind != STORE_READ) {
            work_failed(work, -EIO);
            return;
        }
        work_advance(work, (uint64_t)result);
        if (work->length_bytes > 0 && work->kind == STORE_READ &&
            (result == 0 || at_end_of_file(work))) {
            zero_rest(work);
            work->length_bytes = 0;
        }
        if (work->length_bytes > 0) {
            work_submit(work);
            return;
        }
    }
    store_note(work->store, work, 0, 0);
    work_finish(work, STORE_DONE);
}

static enum way first_way(const struct store *store, enum store_op kind)
{
    if (kind == STORE_TRIM && store->can_punch)
        return WAY_PUNCH;
    if (kind == STORE_TRIM || kind == STORE_ZERO)
        return store->can_zero_range ? WAY_ZERO_RANGE : WAY_WRITE_ZEROS;
    return WAY_PLAIN;
}

void stores_perform(struct stores *stores, const struct store_action *action)
{
    CHECK(action->store < stores->count);
    struct store *store = &stores->store[action->store];
    CHECK(action->offset_bytes % store->config.block_size_bytes == 0);
    CHECK(action->length_bytes % store->config.block_size_bytes == 0);
    struct store_work *work = work_take(stores);
    *work = (struct store_work){
        .op.done = work_done,
        .stores = stores,
        .store = store,
        .io = action->io,
        .kind = action->op,
        .way = first_way(store, action->op),
        .offset_bytes = action->offset_bytes,
        .length_bytes = action->length_bytes,
        .not_after_us = action->not_after_us,
        .iov = action->iov,
        .iov_count = action->iov_count,
    };
    work_submit(work);
}

/* ---- block status ---- */

uint64_t store_extent(const struct store *store, uint64_t from, uint64_t to, bool *hole)
{
    *hole = false;
    if (store->block_device)
        return to;
    off_t data = lseek(store->descriptor, (off_t)from, SEEK_DATA);
    if (data < 0 && errno == ENXIO) {
        *hole = true; /* no data from here to the end, and zeros past it */
        return to;
    }
    if (data < 0)
        return to;
    if ((uint64_t)data > from) {
        *hole = true;
        return min_u64((uint64_t)data, to);
    }
    off_t end = lseek(store->descriptor, (off_t)from, SEEK_HOLE);
    return end < 0 || (uint64_t)end <= from ? to : min_u64((uint64_t)end, to);
}
