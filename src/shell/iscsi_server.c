/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Portals, who is let in, the table of sessions, whose turn it is, and the sweep that ends what has
 * taken too long. Without a configured host only loopback addresses come in. It never lets two
 * sessions of one initiator port be served side by side; a new one waits, for a bounded time, until
 * the old one has ended whatever it might still change. What it then still has in the core stands
 * before all that the new one asks for. */

#include "shell/crypto.h"
#include "shell/iscsi_session.h"
#include "shell/log.h"
#include "shell/socket.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

/* ---- turns ---- */

bool iscsi_server_has_room(const struct iscsi_server *server)
{
    return server->free_task != NO_INDEX && buffers_have_room(&server->buffers);
}

void iscsi_server_wait(struct iscsi_server *server, struct iscsi_session *session)
{
    if (session->is_waiting)
        return;
    session->is_waiting = true;
    session->next_waiting = NULL;
    if (server->waiting_last)
        server->waiting_last->next_waiting = session;
    else
        server->waiting_first = session;
    server->waiting_last = session;
}

void iscsi_server_dirty(struct iscsi_server *server, struct iscsi_session *session)
{
    if (session->is_dirty)
        return;
    session->is_dirty = true;
    session->next_dirty = server->dirty;
    server->dirty = session;
}

/* The first of the line, or NULL. */
static struct iscsi_session *next_in_line(struct iscsi_server *server)
{
    struct iscsi_session *session = server->waiting_first;
    if (!session)
        return NULL;
    server->waiting_first = session->next_waiting;
    if (!server->waiting_first)
        server->waiting_last = NULL;
    session->is_waiting = false;
    return session;
}

static bool serve_waiting(struct iscsi_server *server)
{
    bool any = false;
    /* Once round the line at most: who finds no room again stands at its end. */
    const struct iscsi_session *last = server->waiting_last;
    while (server->waiting_first && iscsi_server_has_room(server)) {
        struct iscsi_session *session = next_in_line(server);
        if (!session->closing && session->stalled && !iscsi_session_finds_room(session)) {
            iscsi_server_wait(server, session);
        } else {
            any = true;
            if (session->closing)
                iscsi_server_dirty(server, session);
            else
                iscsi_session_process(session);
        }
        if (session == last)
            break;
    }
    return any;
}

static bool go_on_with_done(struct iscsi_server *server)
{
    bool any = server->done_first || server->manage_done;
    struct iscsi_task *task = server->done_first;
    server->done_first = server->done_last = NULL;
    while (task) {
        struct iscsi_task *next = task->next_done;
        /* A host that asked for its reservation to be kept over a loss of power hears of it only
         * when it is. */
        if (task->scsi.request.op == HOST_STATE &&
            state_files_busy(&server->files, task->scsi.request.volume)) {
            task->next_done = server->saving;
            server->saving = task;
        } else {
            task->listed = false;
            iscsi_task_go_on(server, task);
        }
        task = next;
    }
    struct iscsi_manage *manage = server->manage_done;
    server->manage_done = NULL;
    while (manage) {
        struct iscsi_manage *next = manage->next_done;
        iscsi_manage_go_on(manage);
        manage = next;
    }
    return any;
}

static void look_at_saving(struct iscsi_server *server)
{
    struct iscsi_task *task = server->saving;
    server->saving = NULL;
    server->saved = false;
    while (task) {
        struct iscsi_task *next = task->next_done;
        task->next_done = server->done_first;
        server->done_first = task;
        if (!server->done_last)
            server->done_last = task;
        task = next;
    }
}

bool iscsi_server_flush(struct iscsi_server *server)
{
    if (!server)
        return false;
    bool any = iscsi_manage_changes(server);
    server->abandoned = false;
    if (server->saved)
        look_at_saving(server);
    any |= go_on_with_done(server);
    any |= serve_waiting(server);
    struct iscsi_session *session = server->dirty;
    server->dirty = NULL;
    while (session) {
        struct iscsi_session *next = session->next_dirty;
        session->is_dirty = false;
        if (session->recheck && !session->closing)
            any |= iscsi_task_unpark(session);
        iscsi_session_flush(session); /* may free it */
        session = next;
    }
    return any || server->abandoned;
}

/* ---- who is let in ---- */

static bool is_loopback(int descriptor)
{
    struct sockaddr_storage who;
    socklen_t size = sizeof who;
    if (getpeername(descriptor, (struct sockaddr *)&who, &size) < 0)
        return false;
    if (who.ss_family == AF_INET)
        return ntohl(((struct sockaddr_in *)&who)->sin_addr.s_addr) >> 24 == 127;
    if (who.ss_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((struct sockaddr_in6 *)&who)->sin6_addr);
    return false;
}

static void say_refused(struct iscsi_server *server, const struct iscsi_session *session,
                        const char *why)
{
    uint64_t now_us = server->loop->now_us;
    char more[48] = "";
    if (now_us < server->refused_say_us) {
        server->refused_unsaid++;
        return;
    }
    if (server->refused_unsaid > 0)
        snprintf(more, sizeof more, " (and %u more since the last such line)",
                 server->refused_unsaid);
    log_say(LOG_WARNING, "iSCSI: %s at %s refused: %s%s", session->target.identify.initiator_name,
            session->who, why, more);
    server->refused_say_us = now_us + ISCSI_REFUSED_SAY_MS * 1000ull;
    server->refused_unsaid = 0;
}

static uint16_t take_tsih(struct iscsi_server *server)
{
    for (uint32_t i = 0; i < 1u << 16; i++) {
        uint16_t tsih = ++server->next_tsih;
        if (tsih == 0 || (server->tsih_used[tsih / 64] >> tsih % 64 & 1))
            continue;
        server->tsih_used[tsih / 64] |= 1ull << tsih % 64;
        return tsih;
    }
    return 0; /* cannot be: there are fewer sessions */
}

/* NULL, or why not. */
static const char *judge(struct iscsi_server *server, struct iscsi_session *session,
                         uint16_t *status)
{
    const struct iscsi_target_identify *who = &session->target.identify;
    *status = ISCSI_LOGIN_AUTHORIZATION_FAILURE;
    if (server->stopping) {
        *status = ISCSI_LOGIN_UNAVAILABLE;
        return "this controller is stopping";
    }
    session->host = config_host_of(server->config, who->initiator_name);
    if (server->config->host_count > 0 && !session->host)
        return "no [host] names it";
    if (server->config->host_count == 0 && !is_loopback(session->descriptor))
        return "no [host] is configured, so only loopback addresses are let in";
    if (!who->discovery &&
        (!who->target_name || strcasecmp(who->target_name, server->target_name))) {
        *status = ISCSI_LOGIN_NOT_FOUND;
        return "there is no such target";
    }
    return NULL;
}

void iscsi_server_identify(struct iscsi_server *server, struct iscsi_session *session)
{
    uint16_t status;
    const char *why = judge(server, session, &status);
    if (why) {
        say_refused(server, session, why);
        iscsi_target_refuse(&session->target, status, why);
        return;
    }
    struct iscsi_target_admission admission = {
        .target_name = session->target.identify.discovery ? NULL : server->target_name,
        .alias = server->config->name,
        .tsih = take_tsih(server),
        .portal_group_tag = (uint16_t)(server->controller ? SCSI_PORT_B : SCSI_PORT_A),
        .nodes = &server->node,
        .node_count = 1,
        .wish = iscsi_target_wish(),
    };
    session->tsih = admission.tsih;
    const struct config_host *host = session->host;
    if (host && host->chap_secret[0])
        admission.initiator = (struct iscsi_identity){host->chap_user, host->chap_secret};
    if (host && host->mutual_secret[0])
        admission.self = (struct iscsi_identity){host->mutual_user, host->mutual_secret};
    iscsi_target_admit(&session->target, &admission);
}

static bool same_port(const struct iscsi_session *one, const struct iscsi_session *other)
{
    return memcmp(one->target.isid, other->target.isid, sizeof one->target.isid) == 0 &&
           strcasecmp(one->target.initiator_name, other->target.initiator_name) == 0;
}

/* Whether an older session of the same initiator port is still there. */
static bool has_older(const struct iscsi_server *server, const struct iscsi_session *session)
{
    for (const struct iscsi_session *s = server->sessions; s; s = s->next)
        if (s != session && s->nexus && same_port(s, session))
            return true;
    return false;
}

static uint32_t luns_of(const struct iscsi_server *server, const struct config_host *host,
                        struct scsi_lun_map luns[SCSI_LUN_LIMIT])
{
    uint32_t count = host ? host->lun_count : server->config->volume_count;
    for (uint32_t i = 0; i < count; i++)
        luns[i] = host ? (struct scsi_lun_map){.lun = (uint8_t)host->luns[i].lun,
                                               .volume = host->luns[i].volume,
                                               .read_only = host->luns[i].read_only}
                       : (struct scsi_lun_map){.lun = (uint8_t)i, .volume = (uint8_t)i};
    return count;
}

static void open_nexus(struct iscsi_server *server, struct iscsi_session *session)
{
    struct scsi_lun_map luns[SCSI_LUN_LIMIT];
    char name[SCSI_PORT_NAME_SIZE];
    const uint8_t *isid = session->target.isid;
    uint32_t count = luns_of(server, session->host, luns);
    snprintf(name, sizeof name, "%.223s,i,0x%02x%02x%02x%02x%02x%02x",
             session->target.initiator_name, isid[0], isid[1], isid[2], isid[3], isid[4], isid[5]);
    session->nexus = scsi_nexus_open(server->scsi, name, luns, count);
    if (!session->nexus) {
        iscsi_session_close(session, "no more sessions can be kept");
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        server->counts.volumes[luns[i].volume].sessions++;
    server->counts.sessions++;
    server->counts.sessions_total++;
    log_say(LOG_INFO, "iSCSI: %s at %s has logged in%s, %u LUN%s", session->target.initiator_name,
            session->who, session->target.authenticated ? ", authenticated" : "", count,
            count == 1 ? "" : "s");
}

void iscsi_server_logged_in(struct iscsi_server *server, struct iscsi_session *session)
{
    if (session->target.discovery) {
        server->counts.discovery_sessions++;
        session->is_discovery = true;
        return;
    }
    for (struct iscsi_session *s = server->sessions; s; s = s->next)
        if (s != session && s->logged_in && !s->closing && !s->target.discovery &&
            same_port(s, session)) {
            log_say(LOG_INFO, "iSCSI: %s at %s logs in again: its session from %s ends",
                    session->target.initiator_name, session->who, s->who);
            iscsi_session_close(s, NULL);
        }
    session->waits_for_old = has_older(server, session);
    session->since_us = server->loop->now_us;
    if (!session->waits_for_old)
        open_nexus(server, session);
}

void iscsi_server_forget(struct iscsi_server *server, struct iscsi_session *session)
{
    if (session->nexus) {
        struct scsi_lun_map luns[SCSI_LUN_LIMIT];
        uint32_t count = luns_of(server, session->host, luns);
        for (uint32_t i = 0; i < count; i++)
            server->counts.volumes[luns[i].volume].sessions--;
        server->counts.sessions--;
        session->nexus = NULL;
    }
    server->counts.discovery_sessions -= session->is_discovery;
    server->counts.rejects += session->target.reject_count;
    if (session->tsih)
        server->tsih_used[session->tsih / 64] &= ~(1ull << session->tsih % 64);
    if (session->previous)
        session->previous->next = session->next;
    else
        server->sessions = session->next;
    if (session->next)
        session->next->previous = session->previous;
    server->session_count--;
    for (struct iscsi_session *s = server->sessions; s; s = s->next)
        if (s->waits_for_old && !s->closing && same_port(s, session) && !has_older(server, s)) {
            s->waits_for_old = false;
            open_nexus(server, s);
            /* It goes on when the loop comes round: this may be in the middle of its flush. */
            loop_timer_set(server->loop, &server->sweep, server->loop->now_us);
            s->resume = true;
            return;
        }
}

/* ---- portals ---- */

static void accept_more(struct iscsi_listener *listener)
{
    struct io_uring_sqe *sqe = loop_sqe(listener->server->loop);
    io_uring_prep_multishot_accept(sqe, listener->descriptor, NULL, NULL, SOCK_CLOEXEC);
    loop_own(sqe, &listener->op);
}

static void retry_accept(struct timer *timer)
{
    accept_more((struct iscsi_listener *)((char *)timer - offsetof(struct iscsi_listener, retry)));
}

/* Of too many that log in at a time the oldest goes, so that a flood of connections that say
 * nothing keeps nobody out for longer than it takes to log in. */
static void make_login_room(struct iscsi_server *server)
{
    struct iscsi_session *oldest = NULL;
    if (server->counts.logging_in < ISCSI_LOGIN_LIMIT)
        return;
    for (struct iscsi_session *s = server->sessions; s; s = s->next)
        if (s->login && !s->closing)
            oldest = s; /* newest first */
    if (oldest) {
        server->counts.refused++;
        iscsi_session_close(oldest, NULL);
    }
}

static void admit(struct iscsi_server *server, const struct iscsi_listener *listener,
                  int descriptor)
{
    make_login_room(server);
    if (server->session_count >= ISCSI_SESSION_LIMIT) {
        server->counts.refused++;
        log_say(LOG_WARNING, "iSCSI connection at %s refused: %d are open, which is the limit",
                listener->address->text, ISCSI_SESSION_LIMIT);
        close(descriptor);
        return;
    }
    iscsi_session_start(server, descriptor);
}

static void accepted(struct op *op, int result, unsigned flags)
{
    struct iscsi_listener *listener = (struct iscsi_listener *)op;
    struct iscsi_server *server = listener->server;
    bool more = flags & IORING_CQE_F_MORE;
    if (server->stopping) {
        if (result >= 0)
            close(result);
        return;
    }
    if (result >= 0) {
        admit(server, listener, result);
    } else if (result != -ECONNABORTED && result != -EINTR && result != -EAGAIN) {
        server->counts.refused++;
        log_say(LOG_WARNING, "iSCSI connection at %s refused: %s", listener->address->text,
                strerror(-result));
        if (!more)
            loop_timer_set(server->loop, &listener->retry,
                           server->loop->now_us + ISCSI_ACCEPT_RETRY_MS * 1000ull);
        return;
    }
    if (!more)
        accept_more(listener);
}

/* ---- the sweep ---- */

static bool past(uint64_t now_us, uint64_t since_us, uint32_t limit_ms)
{
    return now_us > since_us && now_us - since_us > limit_ms * 1000ull;
}

/* The old session does not end: a store hangs. */
static void wait_no_more(struct iscsi_session *s)
{
    log_say(LOG_WARNING,
            "iSCSI: %s at %s goes on although commands of its last session have not "
            "ended",
            s->target.initiator_name, s->who);
    s->waits_for_old = false;
    s->resume = true;
    open_nexus(s->server, s);
}

static void sweep_session(struct iscsi_session *s, uint64_t now_us)
{
    if (!s->closing && !s->ending && s->waits_for_old) {
        if (past(now_us, s->since_us, ISCSI_OLD_MS))
            wait_no_more(s);
    } else if (s->closing) {
        iscsi_server_dirty(s->server, s); /* what it waited for may be possible now */
    } else if (s->ending) {
        if (past(now_us, s->since_us, ISCSI_DRAIN_MS))
            iscsi_session_close(s, "it does not take its last bytes");
    } else if (!s->logged_in) {
        if (past(now_us, s->since_us, ISCSI_LOGIN_MS))
            iscsi_session_close(s, "it does not finish the login");
    } else if (s->sending && past(now_us, s->sent_us, ISCSI_STUCK_MS)) {
        iscsi_session_close(s, "it does not take what is sent to it");
    } else if (s->task_count > 0 && s->receiving && past(now_us, s->received_us, ISCSI_DATA_MS) &&
               iscsi_task_data_due(s)) {
        iscsi_session_close(s, "it does not send the data of its writes");
    } else if (s->pinged_us > 0 && s->target.ping_pending) {
        if (past(now_us, s->pinged_us, ISCSI_PONG_MS))
            iscsi_session_close(s, "it does not answer");
    } else if (s->receiving && past(now_us, s->received_us, ISCSI_PING_MS) &&
               iscsi_target_ping(&s->target)) {
        s->pinged_us = now_us;
        iscsi_server_dirty(s->server, s);
    }
}

static void sweep(struct timer *timer)
{
    struct iscsi_server *server =
        (struct iscsi_server *)((char *)timer - offsetof(struct iscsi_server, sweep));
    uint64_t now_us = server->loop->now_us;
    for (struct iscsi_session *s = server->sessions; s; s = s->next) {
        sweep_session(s, now_us);
        if (s->resume && !s->closing) {
            s->resume = false;
            iscsi_session_process(s);
        }
    }
    /* Commands that have waited too long for room are answered BUSY: each is looked at once. */
    const struct iscsi_session *last = server->waiting_last;
    for (struct iscsi_session *s = server->waiting_first; s;) {
        s = next_in_line(server);
        if (s->closing)
            iscsi_server_dirty(server, s);
        else
            iscsi_session_process(s);
        if (s == last)
            break;
        s = server->waiting_first;
    }
    iscsi_manage_sweep(server);
    loop_timer_set(server->loop, timer, now_us + ISCSI_SWEEP_MS * 1000ull);
}

/* ---- life ---- */

static void name_portals(struct iscsi_server *server)
{
    const struct config *config = server->config;
    uint32_t count = 0;
    for (int i = 0; i < CONTROLLER_COUNT; i++)
        for (uint32_t j = 0; j < config->controllers[i].iscsi_count; j++) {
            const struct address *address = &config->controllers[i].iscsi[j];
            bool six = strchr(address->host, ':') != NULL;
            snprintf(server->portal_texts[count], ADDRESS_TEXT_SIZE, six ? "[%s]:%u" : "%s:%u",
                     address->host, address->port);
            server->portals[count] =
                (struct iscsi_target_portal){.address = server->portal_texts[count],
                                             .group = (uint16_t)(i ? SCSI_PORT_B : SCSI_PORT_A)};
            count++;
        }
    server->node = (struct iscsi_target_node){
        .name = server->target_name, .portals = server->portals, .portal_count = count};
}

static const char *create_scsi(struct iscsi_server *server)
{
    static const enum scsi_transition transitions[] = {
        [CONFIG_TRANSITION_WAIT] = SCSI_TRANSITION_WAIT,
        [CONFIG_TRANSITION_BUSY] = SCSI_TRANSITION_BUSY,
        [CONFIG_TRANSITION_TRANSITIONING] = SCSI_TRANSITION_SENSE,
    };
    const struct config *config = server->config;
    struct scsi_config *made = &server->scsi_config;
    *made = (struct scsi_config){.self = (uint8_t)server->controller,
                                 .transfer_bytes = ISCSI_TRANSFER_BYTES,
                                 .nexus_limit = ISCSI_SESSION_LIMIT,
                                 .unit_count = config->volume_count};
    memcpy(made->array_name, config->name, sizeof made->array_name);
    memcpy(made->target_name, server->target_name, sizeof made->target_name);
    for (uint32_t i = 0; i < config->volume_count; i++) {
        struct scsi_unit_config *unit = &made->units[i];
        memcpy(unit->name, config->volumes[i].name, sizeof unit->name);
        unit->size_bytes = config->volumes[i].size_bytes;
        unit->block_bytes = config->scsi[i].block_size_bytes;
        unit->thin = server->stores->store[config->volumes[i].store].can_punch;
        unit->transition = transitions[config->scsi[i].transition];
    }
    const char *wrong = scsi_config_check(made);
    if (wrong)
        return wrong;
    size_t size = (scsi_memory_size(made) + 63) & ~(size_t)63;
    void *memory = aligned_alloc(64, size);
    CHECK(memory);
    memset(memory, 0, size);
    server->scsi = scsi_create(made, memory, size);
    return NULL;
}

static void on_saved(void *context)
{
    ((struct iscsi_server *)context)->saved = true;
}

static void load_records(struct iscsi_server *server)
{
    for (uint32_t i = 0; i < server->config->volume_count; i++) {
        uint32_t version, length;
        const uint8_t *record;
        static uint8_t kept[VOLUME_STATE_BYTES];
        const char *reason = NULL;
        if (!state_files_load(&server->files, (uint8_t)i, &version, &record, &length))
            continue;
        length = scsi_power_on_state(server->scsi, record, length, kept, &reason);
        if (reason)
            log_say(LOG_ERROR, "volume %s: its state record on disk cannot be read: %s",
                    server->config->volumes[i].name, reason);
        else if (length > 0)
            array_load_state(server->array, (uint8_t)i, version, kept, length);
    }
    memset(server->changed, 0xff, sizeof server->changed); /* scsi/ looks at all of them once */
    server->any_changed = true;
}

static const char *open_portals(struct iscsi_server *server, char why[TRACE_LINE])
{
    const struct config_controller *own = &server->config->controllers[server->controller];
    for (uint32_t i = 0; i < own->iscsi_count; i++) {
        struct iscsi_listener *listener = &server->listeners[i];
        *listener = (struct iscsi_listener){.op.done = accepted,
                                            .server = server,
                                            .retry.fire = retry_accept,
                                            .address = &own->iscsi[i]};
        listener->descriptor = socket_listen(&own->iscsi[i], why);
        if (listener->descriptor < 0)
            return why;
        accept_more(listener);
        log_say(LOG_INFO, "iSCSI at %s: target %s, portal group %d", own->iscsi[i].text,
                server->target_name, server->controller ? SCSI_PORT_B : SCSI_PORT_A);
    }
    return NULL;
}

uint32_t iscsi_server_request_limit(const struct config *config, int controller)
{
    const struct config_controller *own = &config->controllers[controller];
    return own->iscsi_count > 0 ? own->request_limit + ISCSI_MANAGE_LIMIT : 0;
}

const char *iscsi_server_start(struct iscsi_server **started, struct loop *loop,
                               struct array *array, const struct stores *stores,
                               const struct config *config, int controller, char why[TRACE_LINE])
{
    *started = NULL;
    if (config->controllers[controller].iscsi_count == 0)
        return NULL;
    struct iscsi_server *server = calloc(1, sizeof *server);
    CHECK(server);
    server->loop = loop;
    server->array = array;
    server->stores = stores;
    server->config = config;
    server->controller = controller;
    server->crypto = crypto_of_library();
    snprintf(server->target_name, sizeof server->target_name, CONFIG_TARGET_PREFIX "%s",
             config->name);
    name_portals(server);
    server->task_limit = config->controllers[controller].request_limit;
    server->tasks = calloc(server->task_limit, sizeof *server->tasks);
    CHECK(server->tasks);
    for (uint32_t i = 0; i < server->task_limit; i++) {
        server->tasks[i].index = i;
        server->tasks[i].next_free = i + 1 < server->task_limit ? i + 1 : NO_INDEX;
    }
    const char *wrong = create_scsi(server);
    if (!wrong)
        wrong = state_files_start(&server->files, loop, config, controller, on_saved, server, why);
    if (!wrong)
        load_records(server);
    if (!wrong)
        wrong = open_portals(server, why);
    if (wrong)
        return wrong;
    server->sweep.fire = sweep;
    loop_timer_set(loop, &server->sweep, loop->now_us + ISCSI_SWEEP_MS * 1000ull);
    *started = server;
    return NULL;
}

static void stop_listening(struct iscsi_server *server)
{
    const struct config_controller *own = &server->config->controllers[server->controller];
    server->stopping = true;
    for (uint32_t i = 0; i < own->iscsi_count; i++) {
        loop_timer_clear(&server->listeners[i].retry);
        loop_cancel(server->loop, &server->listeners[i].op);
    }
}

void iscsi_server_leave(struct iscsi_server *server)
{
    if (!server || server->stopping)
        return;
    stop_listening(server);
    for (struct iscsi_session *s = server->sessions; s; s = s->next) {
        if (s->closing || s->ending)
            continue;
        if (!s->nexus)
            iscsi_session_close(s, NULL);
        else if (iscsi_target_async(&s->target, ISCSI_ASYNC_LOGOUT, 0, 0, ISCSI_LOGOUT_S))
            iscsi_server_dirty(server, s);
    }
}

bool iscsi_server_left(const struct iscsi_server *server)
{
    return !server || !server->sessions;
}

void iscsi_server_stop(struct iscsi_server *server)
{
    if (!server)
        return;
    for (struct iscsi_session *s = server->sessions; s; s = s->next)
        iscsi_session_close(s, NULL);
}

static void show_session(const struct iscsi_session *session, struct iscsi_shown *shown)
{
    *shown = (struct iscsi_shown){
        .host = session->host ? session->host->name : NULL,
        .authenticated = session->target.authenticated,
        .header_digest = session->target.params.header_digest,
        .data_digest = session->target.params.data_digest,
        .luns = session->host ? session->host->lun_count : session->server->config->volume_count,
        .commands = session->task_count,
        .idle_us = session->server->loop->now_us - session->received_us,
    };
    memcpy(shown->initiator, session->target.initiator_name, sizeof shown->initiator);
    memcpy(shown->address, session->who, sizeof shown->address);
}

void iscsi_server_counts(struct iscsi_server *server, struct iscsi_counts *counts)
{
    if (!server) {
        memset(counts, 0, sizeof *counts);
        return;
    }
    *counts = server->counts;
    counts->tasks = server->task_used;
    counts->task_limit = server->task_limit;
    for (const struct iscsi_session *s = server->sessions; s; s = s->next) {
        counts->rejects += s->target.reject_count;
        if (s->nexus && !s->closing && counts->shown_count < ISCSI_SHOWN_LIMIT)
            show_session(s, &counts->shown[counts->shown_count++]);
    }
}

void iscsi_server_changed(struct iscsi_server *server, const uint64_t changed[VOLUME_LIMIT / 64])
{
    if (!server)
        return;
    for (int i = 0; i < VOLUME_LIMIT / 64; i++) {
        server->changed[i] |= changed[i];
        server->any_changed |= changed[i] != 0;
    }
}

void iscsi_server_controllers(struct iscsi_server *server, uint8_t in)
{
    if (server)
        scsi_on_controllers(server->scsi, in);
}
