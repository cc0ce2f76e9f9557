/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The glue. What happens outside goes into the core as it is reported; at the end of each burst the
 * core is asked once what to do, and that is performed in the order that array.h promises: store,
 * register, send, complete. It decides nothing by itself. */

#include "shell/controller.h"

#include "shell/handle.h"
#include "shell/log.h"
#include "shell/notify.h"
#include "shell/prefault.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <unistd.h>

static struct controller controller; /* large; one a process */

/* ---- performing ---- */

static void perform_rest(struct controller *self, const struct actions *actions)
{
    for (uint32_t i = 0; i < actions->operator_count; i++)
        control_server_reply(&self->control, &actions->operators[i]);
    for (uint32_t i = 0; i < actions->log_count; i++)
        log_say(actions->log[i].level, "%s", actions->log[i].text);
    if (actions->fence_peer)
        watch_fence(&self->watch);
    if (actions->stopped && !self->linger.armed) {
        control_server_stopped(&self->control);
        iscsi_server_leave(self->iscsi);
        self->stopped_us = self->loop.now_us;
        loop_timer_set(&self->loop, &self->linger,
                       self->loop.now_us + CONTROLLER_LINGER_MS * 1000ull);
    }
}

static void complete(struct controller *self, const struct completion *completion)
{
    switch (handle_kind(completion->handle)) {
    case HANDLE_NBD:
        nbd_server_complete(&self->nbd, completion->handle, completion->result);
        return;
    case HANDLE_ISCSI:
    case HANDLE_ISCSI_MANAGE:
        iscsi_server_complete(self->iscsi, completion);
        return;
    case HANDLE_SHIPPED:
        ship_complete(self->ship, completion);
        return;
    }
    CHECK(false);
}

/* Calls nothing that calls the core: the actions stay valid until the end. */
static void perform(struct controller *self, const struct actions *actions)
{
    for (uint32_t i = 0; i < actions->store_count; i++)
        stores_perform(&self->stores, &actions->store[i]);
    if (actions->register_wanted)
        register_thread_ask(&self->reg, &actions->reg);
    if (actions->reply_wanted)
        link_reply(&self->link, actions->reply_good);
    if (actions->send_wanted)
        link_send(&self->link, &actions->send);
    if (self->groups)
        copy_groups_perform(self->groups, actions);
    if (actions->ship_count > 0)
        ship_send(self->ship, actions->ships, actions->ship_count);
    iscsi_server_changed(self->iscsi, actions->changed);
    for (uint32_t i = 0; i < actions->completion_count; i++)
        complete(self, &actions->completions[i]);
    perform_rest(self, actions);
}

/* Bit 0 a, bit 1 b: who may serve in that role. */
static uint8_t controllers_in(int self, enum role role)
{
    switch (role) {
    case ROLE_PAIRED:
    case ROLE_RACING:
    case ROLE_FENCING:
        return 3; /* between a loss and what follows it nothing is said yet */
    case ROLE_SOLO:
        return (uint8_t)(1 << self);
    default:
        return (uint8_t)(1 << (1 - self));
    }
}

/* SCSI hosts are told of the other target port group as soon as it changes. */
static void tell_role(struct controller *self)
{
    enum role role = array_glance(self->array).role;
    if (role == self->role_seen)
        return;
    self->role_seen = role;
    iscsi_server_controllers(self->iscsi, controllers_in(self->self, role));
}

static uint64_t burst(void *context)
{
    struct controller *self = context;
    for (int round = 0; round < CONTROLLER_BURST_ROUNDS; round++) {
        self->loop.now_us = loop_clock_us();
        copy_groups_wall(self->groups);
        const struct actions *actions = array_pump(self->array, self->loop.now_us);
        uint64_t deadline_us = actions->deadline_us;
        bool reset = actions->link_reset, ship_again = actions->ship_reset;
        uint32_t copies_again = actions->copy_reset;
        perform(self, actions);
        /* From here on the core may be called again. */
        bool again = link_go_on(&self->link);
        if (reset)
            link_reset(&self->link);
        if (ship_again)
            ship_reset(self->ship);
        copy_groups_reset(self->groups, copies_again);
        again |= ship_again;
        again |= ship_flush(self->ship);
        again |= nbd_server_flush(&self->nbd);
        tell_role(self);
        again |= iscsi_server_flush(self->iscsi);
        again |= copy_groups_flush(self->groups); /* behind what hosts wait for */
        if (!again)
            return deadline_us;
    }
    return 0;
}

static void before_submit(void *context)
{
    stores_before_submit(&((struct controller *)context)->stores);
}

/* ---- what happens ---- */

static void on_store(void *context, uint32_t io, enum store_result result)
{
    struct controller *self = context;
    array_on_store(self->array, self->loop.now_us, io, result);
}

static void on_register(void *context, enum register_result result,
                        const struct register_record *record, const char *why)
{
    struct controller *self = context;
    array_on_register(self->array, self->loop.now_us, result, record);
}

static void on_peer_gone(void *context, uint64_t incarnation)
{
    struct controller *self = context;
    if (incarnation != 0)
        log_say(LOG_WARNING,
                "the peer's parent proves: start %016llx of the peer is gone, and its last store "
                "operation has ended",
                (unsigned long long)incarnation);
    array_on_peer_gone(self->array, self->loop.now_us, incarnation);
}

static void on_warden(void *context, bool answers)
{
    struct controller *self = context;
    array_on_warden(self->array, self->loop.now_us, answers);
}

static bool fence_wanted(void *context)
{
    struct controller *self = context;
    array_status(self->array, self->loop.now_us, &self->status);
    return self->status.role == ROLE_RACING || self->status.role == ROLE_FENCING;
}

void controller_stop(struct controller *self)
{
    if (self->stopping)
        return;
    self->stopping = true;
    log_say(LOG_INFO, "clean stop");
    notify_say("STOPPING=1\nSTATUS=stopping: destaging what the cache holds");
    array_operator_stop(self->array, self->loop.now_us);
}

static void signal_wait(struct controller *self)
{
    struct io_uring_sqe *sqe = loop_sqe(&self->loop);
    io_uring_prep_read(sqe, self->signal_descriptor, self->signal_bytes, sizeof self->signal_bytes,
                       0);
    loop_own(sqe, &self->signal);
}

static void on_signal(struct op *op, int result, unsigned flags)
{
    struct controller *self =
        (struct controller *)((char *)op - offsetof(struct controller, signal));
    if (result == sizeof(struct signalfd_siginfo))
        controller_stop(self);
    signal_wait(self);
}

static void linger_over(struct timer *timer)
{
    struct controller *self =
        (struct controller *)((char *)timer - offsetof(struct controller, linger));
    uint64_t now_us = self->loop.now_us;
    if (!iscsi_server_left(self->iscsi) &&
        now_us - self->stopped_us < CONTROLLER_LEAVE_MS * 1000ull)
        loop_timer_set(&self->loop, timer, now_us + CONTROLLER_LEAVE_LOOK_MS * 1000ull);
    else
        self->loop.stopped = true;
}

/* ---- status ---- */

static void sample(struct timer *timer)
{
    struct controller *self =
        (struct controller *)((char *)timer - offsetof(struct controller, sample));
    uint64_t now_us = self->loop.now_us;
    double seconds = (double)(now_us - self->sampled_us) / 1e6;
    array_status(self->array, now_us, &self->status);
    for (uint32_t i = 0; i < self->config->volume_count; i++) {
        const struct volume_status *volume = &self->status.volumes[i];
        if (self->sampled_us != 0 && seconds > 0) {
            self->read_iops[i] = (double)(volume->reads - self->sampled_reads[i]) / seconds;
            self->write_iops[i] = (double)(volume->writes - self->sampled_writes[i]) / seconds;
        }
        self->sampled_reads[i] = volume->reads;
        self->sampled_writes[i] = volume->writes;
    }
    self->sampled_us = now_us;
    copy_groups_sample(self->groups, &self->status);
    if (self->status.role != self->role_told) {
        self->role_told = self->status.role;
        notify_say("STATUS=%s: %.150s", role_name(self->status.role), self->status.reason);
    }
    loop_timer_set(&self->loop, timer, now_us + CONTROLLER_SAMPLE_MS * 1000ull);
}

static void fill_extra(struct controller *self)
{
    struct control_extra *extra = &self->extra;
    memset(extra, 0, sizeof *extra);
    extra->controller = self->self;
    extra->pid = getpid();
    extra->uptime_us = self->loop.now_us - self->started_us;
    extra->version = HOLDFAST_VERSION;
    extra->nbd_connections = self->nbd.connection_count;
    extra->nbd_connections_total = self->nbd.connections_total;
    extra->nbd_refused = self->nbd.refused;
    iscsi_server_counts(self->iscsi, &extra->iscsi);
    extra->link_authenticated = self->config->secret[0] && self->link.out.up;
    extra->link_logins = self->link.logins;
    memcpy(extra->link_error, self->link.error, sizeof extra->link_error);
    extra->warden = self->watch.answering ? CONTROL_WARDEN_CONNECTED : CONTROL_WARDEN_ALONE;
    memcpy(extra->warden_error, self->watch.error, sizeof extra->warden_error);
    for (uint32_t i = 0; i < self->stores.count; i++) {
        const struct store *store = &self->stores.store[i];
        struct control_store *shown = &extra->stores[i];
        shown->state = store->failing ? CONTROL_STORE_FAILING : CONTROL_STORE_OPEN;
        shown->direct = store->direct;
        shown->block_size_bytes = store->config.block_size_bytes;
        shown->size_bytes = store->size_bytes;
        memcpy(shown->error, store->error, sizeof shown->error);
    }
    for (uint32_t i = 0; i < self->config->group_count; i++)
        copy_groups_counts(self->groups, i, &extra->groups[i]);
    for (uint32_t i = 0; i < self->config->volume_count; i++) {
        extra->volumes[i].read_iops = self->read_iops[i];
        extra->volumes[i].write_iops = self->write_iops[i];
        extra->volumes[i].refused = self->nbd.volume_refused[i];
        extra->volumes[i].connections = self->nbd.volume_connections[i];
    }
}

char *controller_status_line(struct controller *self)
{
    array_status(self->array, self->loop.now_us, &self->status);
    fill_extra(self);
    return control_format_status(self->config, &self->extra, &self->status);
}

/* ---- starting ---- */

static const char *open_stores(struct controller *self, char why[TRACE_LINE])
{
    stores_init(&self->stores, &self->loop, on_store, self);
    for (uint32_t i = 0; i < self->config->store_count; i++) {
        const char *wrong = stores_open(&self->stores, &self->config->stores[i], why);
        const struct store *store = &self->stores.store[i];
        if (wrong)
            return wrong;
        log_say(LOG_INFO, "store %s: %s, %s, blocks of %u bytes", store->name,
                self->config->stores[i].path, store->direct ? "direct" : "buffered",
                store->config.block_size_bytes);
    }
    for (uint32_t i = 0; i < self->config->volume_count; i++) {
        const struct volume_config *volume = &self->config->volumes[i];
        const struct store *store = &self->stores.store[volume->store];
        if (store->block_device &&
            (volume->store_offset_bytes > store->size_bytes ||
             volume->size_bytes > store->size_bytes - volume->store_offset_bytes)) {
            snprintf(why, TRACE_LINE, "volume %.60s ends past the end of store %.60s", volume->name,
                     store->name);
            return why;
        }
    }
    return NULL;
}

static const char *create_array(struct controller *self, char why[TRACE_LINE])
{
    const struct config *config = self->config;
    struct array_config *made = &self->array_config;
    *made = (struct array_config){
        .self = (uint8_t)self->self,
        .incarnation = self->ticket.incarnation,
        .seed = self->ticket.incarnation ^ loop_clock_us(),
        .slot_count = (uint32_t)(config->cache_bytes / PAGE_SIZE_BYTES),
        /* Each protocol has its own share, so that neither starves the other. */
        .request_limit = config->controllers[self->self].request_limit +
                         iscsi_server_request_limit(config, self->self) + SHIP_TASK_LIMIT,
        .destage_io_limit = CONTROLLER_DESTAGE_IOS,
        .fetch_io_limit = CONTROLLER_FETCH_IOS,
        .dirty_low_percent = config->dirty_low_percent,
        .dirty_high_percent = config->dirty_high_percent,
        .destage_after_ms = config->destage_after_ms,
        .lease_ms = config->lease_ms,
        .settle_ms = config->settle_ms,
        .auto_giveback = config->auto_giveback,
        .trace = getenv("HOLDFAST_TRACE") != NULL,
        .volume_count = config->volume_count,
        .store_count = config->store_count,
    };
    memcpy(made->volumes, config->volumes, config->volume_count * sizeof made->volumes[0]);
    for (uint32_t i = 0; i < config->store_count; i++)
        made->stores[i] = self->stores.store[i].config;
    const char *wrong = copy_groups_fill(config, made, why);
    if (!wrong)
        wrong = array_config_check(made);
    if (wrong)
        return wrong;
    self->memory_size = array_memory_size(made);
    self->memory =
        mmap(NULL, self->memory_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (self->memory == MAP_FAILED) {
        snprintf(why, TRACE_LINE, "cannot take %zu MiB of memory for the cache: %s",
                 self->memory_size >> 20, strerror(errno));
        return why;
    }
    /* Large pages save most of the address translation of a cache that is read at random. */
    madvise(self->memory, self->memory_size, MADV_HUGEPAGE);
    madvise(self->memory, self->memory_size, MADV_DONTDUMP);
    self->array = array_create(made, self->memory, self->memory_size, self->loop.now_us);
    prefault_start(self->memory, self->memory_size);
    return NULL;
}

static const char *open_loop(struct controller *self)
{
    const char *wrong =
        loop_open(&self->loop, CONTROLLER_RING_ENTRIES, self->config->controllers[self->self].cpu);
    self->loop.poll_us = self->config->controllers[self->self].poll_us;
    if (wrong)
        return wrong;
    const int held[] = {self->ticket.alive, self->ticket.lock};
    wrong = loop_hold(&self->loop, held, ARRAY_LENGTH(held));
    if (wrong)
        return wrong;
    close(self->ticket.alive);
    close(self->ticket.lock);
    self->started_us = self->loop.now_us;
    self->loop.burst = burst;
    self->loop.before_submit = before_submit;
    self->loop.context = self;
    return NULL;
}

static const char *open_signals(struct controller *self)
{
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    self->signal_descriptor = signalfd(-1, &stop, SFD_CLOEXEC);
    if (self->signal_descriptor < 0)
        return strerror(errno);
    self->signal.done = on_signal;
    signal_wait(self);
    return NULL;
}

static const char *start(struct controller *self, char why[TRACE_LINE])
{
    static const struct watch_events template = {
        .gone = on_peer_gone, .answers = on_warden, .fence_wanted = fence_wanted};
    const char *wrong = open_loop(self);
    if (!wrong)
        wrong = open_signals(self); /* before any thread: each inherits the mask */
    if (!wrong)
        wrong = open_stores(self, why);
    if (!wrong)
        wrong = create_array(self, why);
    if (!wrong)
        wrong = register_thread_start(&self->reg, &self->loop, self->config->register_path,
                                      on_register, self);
    if (!wrong)
        wrong = ship_start(&self->ship, &self->loop, self->array, self->config, self->self);
    if (!wrong)
        wrong = link_start(&self->link, &self->loop, self->array, self->ship, self->config,
                           self->self, why);
    if (!wrong)
        wrong = copy_groups_start(&self->groups, &self->loop, self->array, &self->array_config,
                                  self->config, self->self, why);
    if (!wrong)
        wrong = nbd_server_start(&self->nbd, &self->loop, self->array, &self->stores, self->config,
                                 self->self, why);
    if (!wrong)
        wrong = iscsi_server_start(&self->iscsi, &self->loop, self->array, &self->stores,
                                   self->config, self->self, why);
    if (!wrong)
        wrong = control_server_start(&self->control, self, why);
    if (wrong)
        return wrong;
    struct watch_events events = template;
    events.context = self;
    watch_start(&self->watch, &self->loop, self->config, 1 - self->self, &events);
    self->linger.fire = linger_over;
    self->sample.fire = sample;
    self->role_told = self->role_seen = ROLE_COUNT;
    loop_timer_set(&self->loop, &self->sample, self->loop.now_us);
    return NULL;
}

int controller_run(const struct config *config, int self, const struct warden_ticket *ticket)
{
    controller.config = config;
    controller.self = self;
    controller.ticket = *ticket;
    char why[TRACE_LINE];
    const char *wrong = start(&controller, why);
    if (wrong) {
        log_say(LOG_ERROR, "%s", wrong);
        return 1;
    }
    log_say(LOG_INFO, "controller %s of array %s runs: cache %llu MiB, lease %u ms, start %016llx",
            controller_name(self), config->name, (unsigned long long)config->cache_bytes >> 20,
            config->lease_ms, (unsigned long long)ticket->incarnation);
    notify_say("READY=1\nMAINPID=%d", (int)getppid());
    loop_run(&controller.loop);
    nbd_server_stop(&controller.nbd);
    iscsi_server_stop(controller.iscsi);
    control_server_close(&controller.control);
    return 0;
}
