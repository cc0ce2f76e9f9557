/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* One controller: all that can happen to it, and all that it can ask for, on one page.
 *
 * A shell (the process, or the simulator) tells the core what happened through the array_on_*()
 * calls and array_host(), then calls array_pump() once for the whole burst and performs the actions
 * it gets, in this order: store operations, the register, what goes to the peer, completions to
 * hosts. The core never calls out, never waits, has no clock (every call carries the time), and
 * takes no memory after array_create().
 *
 *     struct actions *actions;
 *     array_host(...); array_on_store(...); ...      what happened, in the order it happened
 *     actions = array_pump(array, now_us);           what to do about it
 *     perform(actions);                              valid until the next call into the core
 *
 * Times are microseconds of a clock that never goes back and keeps running while the machine
 * sleeps. */

#ifndef ARRAY_ARRAY_H
#define ARRAY_ARRAY_H

#include "array/status.h"
#include "backend/backend.h"
#include "copy/cut.h"
#include "copy/record.h"
#include "role/register.h"
#include "volume/volume.h"

struct array;

struct array_config {
    uint8_t self;         /* 0 = a, 1 = b */
    uint64_t incarnation; /* not zero; different for every start of the process */
    uint64_t seed;        /* for jitter */

    uint32_t slot_count; /* 4 KiB slots of this controller's cache; the mirror image takes as many
                            again */
    uint32_t request_limit;    /* host requests in the core at a time */
    uint32_t destage_io_limit; /* store writes in flight */
    uint32_t fetch_io_limit;   /* store reads in flight */

    uint8_t dirty_low_percent;  /* above: destage ahead of need */
    uint8_t dirty_high_percent; /* above: host writes wait */
    uint32_t destage_after_ms;  /* a page dirty for longer is destaged although there is room */

    uint32_t lease_ms;  /* how long after the peer last answered this controller may still serve */
    uint32_t settle_ms; /* how long after its lease a store write of the peer may still land */

    bool auto_giveback; /* a volume goes home by itself when its home controller has rejoined */
    bool trace;         /* log lines of level LOG_TRACE: every header, batch, slot and role event */

    uint32_t volume_count;
    struct volume_config volumes[VOLUME_LIMIT];
    uint32_t store_count;
    struct store_config stores[STORE_LIMIT];
    uint32_t group_count; /* of the remote copy; a volume is in at most one */
    struct group_config groups[GROUP_LIMIT];
};

/* ---- what it asks for ---- */

enum log_level { LOG_TRACE, LOG_INFO, LOG_WARNING, LOG_ERROR };

struct log_line {
    enum log_level level;
    char text[TRACE_LINE];
};

enum { MESSAGE_HELLO = 1, MESSAGE_BATCH = 0 }; /* the WRITE BUFFER buffer id that carries each */

/* At most one message to the peer is under way. Its bytes stay valid until array_on_status() or
 * array_on_link_down(), and unchanged until then or until actions.link_reset: what leaves after
 * that may be changed, and its checksums say so. */
struct send_action {
    uint8_t buffer_id; /* MESSAGE_* */
    uint32_t length_bytes;
    const struct iovec *iov; /* heads first, then the data straight from the slots */
    uint32_t iov_count;
};

struct register_action {
    bool swap; /* false: read; true: compare-and-swap from `expected` to `wanted` */
    struct register_record expected, wanted;
};

struct completion {
    uint64_t handle;
    enum host_result result;
    uint64_t detail; /* HOST_MISCOMPARE: the first byte that differs, counted from the request's
                        beginning */
};

/* One step of a host's request that the peer, which owns the volume, is to carry out. The peer's
 * shell gives it to its own core with HOST_SHIPPED and `tag`; the answer comes back through
 * array_on_shipped(). `request.data` stays valid until then. At most SHIP_LIMIT are under way. */
struct ship_action {
    uint32_t tag;
    struct host_request request; /* READ, WRITE: at most SHIP_BYTES; TRIM, ZERO: less than 4 GiB */
};

/* One batch of a group for the second array: the parameter list of a WRITE BUFFER (copy/record.h).
 * At most COPY_WINDOW of a group are under way; they may be carried out in any order. The bytes
 * stay as they are until array_on_copy_answered() for that number, array_on_copy_down(), or
 * the call whose pump says actions.copy_reset for the group: what leaves after that may be changed,
 * and its checksums say so. The same number may be sent again, after a session was lost. */
struct copy_action {
    uint8_t group;
    uint64_t number;
    const struct iovec *iov; /* head and records first, then the data straight from the slots */
    uint32_t iov_count;
    uint32_t length_bytes;
};

/* What this controller must find again when it starts: the group's era, its role, what was
 * promoted, and after a clean stop the bitmap. The bytes stay as they are until
 * array_on_group_record_kept(). A record replaces the one before it as a whole: at every moment one
 * of the two is there. */
struct group_record {
    uint8_t group;
    const uint8_t *bytes;
    uint32_t length_bytes; /* at most array_group_record_size() */
};

/* The answer to array_on_copy_message(): all that the batch asks for is held as safely as this
 * array can hold it now (GOOD), or none of it need be (CHECK CONDITION, ABORTED COMMAND: the sender
 * reads the state). Its bytes are needed no more. */
struct copy_reply {
    uint64_t handle;
    bool good;
};

/* One message of a set's coordinator to another array (copy/cut.h): the parameter list of a WRITE
 * BUFFER, CUT_MESSAGE_SIZE bytes. At most CUT_WINDOW to a member are under way; the answer to one
 * may come long after that to a later one. The bytes stay as they are until
 * array_on_cut_answered() for that number or array_on_cut_down(). */
struct cut_action {
    uint8_t group, member;
    bool state_wanted; /* when it was answered GOOD: read the state (READ BUFFER), say
                          array_on_cut_state(), and only then array_on_cut_answered() */
    uint64_t number;
    const uint8_t *bytes;
};

/* The answer to array_on_cut_message(). */
struct cut_reply {
    uint64_t handle;
    bool good;
};

struct operator_reply {
    uint64_t handle;
    bool done; /* false: refused or failed, and nothing changed */
    char text[TRACE_LINE];
};

struct actions {
    uint32_t store_count;
    const struct store_action *store;

    bool register_wanted; /* then exactly one array_on_register() answers it */
    struct register_action reg;

    bool reply_wanted; /* the SCSI status for the message last given to array_on_message() */
    bool reply_good;   /* false: CHECK CONDITION, ABORTED COMMAND; the bytes changed nothing */

    bool send_wanted;
    struct send_action send;

    uint32_t ship_count;
    const struct ship_action *ships;
    bool ship_reset; /* drop the session that carries ships; array_on_ship_down() follows once
                        nothing of it touches a request's data any more */

    uint32_t copy_count;
    const struct copy_action *copies; /* sent after what goes to the peer */
    /* Groups (a bit each) whose session to the second array is to be dropped, and made anew:
     * array_on_copy_down() follows, and only then array_on_copy_up() again. What was under way in
     * it is over: no answer to it may follow the array_on_copy_down(). */
    uint32_t copy_reset;

    uint32_t group_record_count; /* at most one of a group is under way */
    const struct group_record *group_records;

    uint32_t copy_reply_count;
    const struct copy_reply *copy_replies; /* each batch exactly once */

    uint32_t cut_count;
    const struct cut_action *cuts; /* sent after what goes to the peer, before completions */
    uint32_t cut_reply_count;
    const struct cut_reply *cut_replies; /* each message exactly once */

    /* Volumes (bit i of word i / 64) whose state record, owner or service has changed. */
    uint64_t changed[VOLUME_LIMIT / 64];

    bool link_reset; /* drop our session to the peer and log in again; array_on_link_down() follows
                      */
    bool fence_peer; /* ask the peer's parent to end the peer and prove it; once per takeover */
    bool stopped;    /* a clean stop has ended: everything is on the stores, the process may exit */

    uint32_t completion_count;
    const struct completion *completions;

    uint32_t operator_count;
    const struct operator_reply *operators;

    uint32_t log_count;
    const struct log_line *log;

    uint64_t deadline_us; /* call array_pump() at this time even when nothing happens */
};

/* ---- life ---- */

/* Bytes that array_create() needs. The config must have passed array_config_check(). */
size_t array_memory_size(const struct array_config *config);

/* NULL when the config is sound, else a sentence naming the field and what would be right. */
const char *array_config_check(const struct array_config *config);

/* `memory`: zero-filled, page-aligned, array_memory_size() bytes, the caller's, for as long as the
 * array lives. The first array_pump() asks for the register. */
struct array *array_create(const struct array_config *config, void *memory, size_t size,
                           uint64_t now_us);

/* Decide: seal the filling list if the link is free, start destages, let waiters on, and hand out
 * the actions. */
const struct actions *array_pump(struct array *array, uint64_t now_us);

/* ---- what happened ---- */

struct host_outcome {
    bool complete;           /* already over: no completion will follow */
    enum host_result result; /* when complete */
    uint64_t detail;         /* as in struct completion */
    /* Not complete: `data` is still needed. For a WRITE false means its bytes have been copied to
     * slots. When true the caller may move them with array_host_move_data() and must keep the new
     * place until the completion. */
    bool data_held;
};

/* A host's request. READ hits, and FLUSH where there is nothing to wait for, complete here and now.
 */
struct host_outcome array_host(struct array *array, uint64_t now_us,
                               const struct host_request *request);

/* The data of the request that array_host() last left incomplete with data_held now stands at
 * `data` (the same length and, for a WRITE, the same bytes). */
void array_host_move_data(struct array *array, void *data);

/* The host that made the request is gone, so it may come to the other controller with it, be
 * answered, and go on: what has not begun does not begin, what waits for room ends, and no step of
 * it is shipped any more.
 * The completion still follows. Unknown handles are ignored. */
void array_host_abandon(struct array *array, uint64_t now_us, uint64_t handle);

/* The session that carries shipped requests to the peer is up, or lost. `session` names it, is not
 * 0 and not the one before's. */
void array_on_ship_up(struct array *array, uint64_t now_us, uint32_t session);
void array_on_ship_down(struct array *array, uint64_t now_us);
/* The peer's session of that name is let in: every request of those before it has ended here (READs
 * may be left behind), and none of it comes any more. The change stream tells the peer so. */
void array_on_ship_admitted(struct array *array, uint64_t now_us, uint32_t session);
/* The peer's answer to the ship action of that tag. An answer to what is no longer under way is
 * ignored. */
void array_on_shipped(struct array *array, uint64_t now_us, uint32_t tag, enum host_result result,
                      uint64_t detail);

/* ---- the remote copy: groups whose side here is GROUP_PRIMARY ----
 *
 * Each controller keeps a session of its own to the second array for each group, whatever its role:
 * to the controller there whose state has COPY_STATE_HERE. As soon as a session is logged in the
 * shell reads the state (READ BUFFER) and says array_on_copy_up() with it. A session is also to be
 * dropped and made anew when it is up and the controller there no longer holds the group. */
void array_on_copy_up(struct array *array, uint64_t now_us, uint8_t group,
                      const struct copy_state *state);
/* The session is lost, or was dropped as actions.copy_reset asked. Nothing when there is none. */
void array_on_copy_down(struct array *array, uint64_t now_us, uint8_t group);
/* The status of that batch: GOOD or not. After one that is not good actions.copy_reset follows. */
void array_on_copy_answered(struct array *array, uint64_t now_us, uint8_t group, uint64_t number,
                            bool good);

/* The state as it is asked for again while the session is up: it says when the other array was
 * failed over. Ignored when there is no session. */
void array_on_copy_state(struct array *array, uint64_t now_us, uint8_t group,
                         const struct copy_state *state);
/* The other array's controller has logged in here about the group, has sent something, or has asked
 * for its state: it is alive, and a failover needs `force` for some seconds. */
void array_on_copy_heard(struct array *array, uint64_t now_us, uint8_t group);

/* A group's record as it was kept on disk, before the first pump. Foreign bytes: what cannot be a
 * record of the group is logged and counts as none. */
void array_load_group(struct array *array, uint8_t group, const void *bytes, uint32_t length_bytes);
/* The record that actions.group_records last named for the group is durable, or cannot be made so:
 * then it is given out again after a while, and who waits for it waits on. */
void array_on_group_record_kept(struct array *array, uint64_t now_us, uint8_t group, bool good);
/* The longest record of the group. */
uint32_t array_group_record_size(const struct array_config *config, uint8_t group);

/* ---- the remote copy: groups that are received here ----
 *
 * A batch from a controller of the other array (copy/record.h): the parameter list of its WRITE
 * BUFFER, foreign bytes. They stay as they are until the answer to `handle` is among
 * actions.copy_replies, which comes in bounded time after the session, the peer or the role was
 * lost, too. There is no cancel. At most COPY_MESSAGES of a group wait at a time: what is beyond is
 * answered not good. `group`: its place in the configuration. */
enum { COPY_MESSAGES = 4 * COPY_WINDOW };
void array_on_copy_message(struct array *array, uint64_t now_us, uint64_t handle, uint8_t group,
                           const void *bytes, uint32_t length_bytes);

/* The group's state, for READ BUFFER. COPY_STATE_HERE: this controller owns the group's volumes,
 * serves, and takes batches; at the other one a session is of no use. */
void array_copy_state(const struct array *array, uint8_t group, struct copy_state *state);

/* ---- a set of groups: the coordinating array ----
 *
 * For each group that is member 0 of a set, and not GROUP_ROLE_RECEIVING here, both controllers
 * keep a session to each member that is at another array (array_cut_elsewhere()): to the controller
 * there whose state has CUT_STATE_LEADER. As soon as it is logged in the shell reads the state
 * (READ BUFFER) and says array_on_cut_up() with it; it asks again every second,
 * array_on_cut_state(), and leaves a controller that is no leader any more. */
void array_on_cut_up(struct array *array, uint64_t now_us, uint8_t group, uint8_t member,
                     const struct cut_state *state);
/* The session is lost: what was under way in it may have arrived or not. */
void array_on_cut_down(struct array *array, uint64_t now_us, uint8_t group, uint8_t member);
void array_on_cut_state(struct array *array, uint64_t now_us, uint8_t group, uint8_t member,
                        const struct cut_state *state);
/* The status of that message. An answer to what is no longer under way is ignored. */
void array_on_cut_answered(struct array *array, uint64_t now_us, uint8_t group, uint8_t member,
                           uint64_t number, bool good);
/* Whether that member of the group's set is at another array, and so wants a session. */
bool array_cut_elsewhere(const struct array_config *config, uint8_t group, uint8_t member);

/* ---- a set of groups: every other array of it ----
 *
 * A message of the coordinator, foreign bytes, which are only read during the call. The answer to
 * `handle` is among actions.cut_replies, perhaps much later: a message may wait for the way to the
 * second array. At most CUT_WINDOW of a group wait at a time: what is beyond is answered not good,
 * and so is all that waits when this controller is out or a newer run begins. A session that broke
 * gives nothing back: its answers are thrown away by the shell. */
void array_on_cut_message(struct array *array, uint64_t now_us, uint64_t handle, uint8_t group,
                          const void *bytes, uint32_t length_bytes);
/* The member's state, for READ BUFFER. */
void array_cut_state(const struct array *array, uint8_t group, struct cut_state *state);

/* The time of day, microseconds since 1970, which may jump: only to be shown beside a cut. To be
 * said before each array_pump() when there are groups; the last one said counts. */
void array_set_wall(struct array *array, uint64_t wall_us);

/* A volume's state record as it was kept on disk, before the first pump: it counts until a peer or
 * a host brings another one. */
void array_load_state(struct array *array, uint8_t volume, uint32_t version, const void *bytes,
                      uint32_t length);

/* A store operation ended. */
void array_on_store(struct array *array, uint64_t now_us, uint32_t io, enum store_result result);

/* Our session to the peer is logged in / is lost. Between the two one message may be under way. */
void array_on_link_up(struct array *array, uint64_t now_us);
void array_on_link_down(struct array *array, uint64_t now_us);

/* The peer's SCSI status for our message. */
void array_on_status(struct array *array, uint64_t now_us, bool good);

/* A whole WRITE BUFFER from the peer. The bytes are only read during the call; the next
 * array_pump() says what to answer. `buffer_id` and bytes are foreign: anything may be in them. */
void array_on_message(struct array *array, uint64_t now_us, uint8_t buffer_id, const void *bytes,
                      uint32_t length);

/* The answer to the register action. `record` is read for OK and CONFLICT. */
void array_on_register(struct array *array, uint64_t now_us, enum register_result result,
                       const struct register_record *record);

/* Proof: the peer's process is gone and its last store operation has ended. `incarnation`: which
 * start of it, or 0 when any that was alive when the proof was asked for. */
void array_on_peer_gone(struct array *array, uint64_t now_us, uint64_t incarnation);

/* Whether the peer's parent process answers. While it does, a takeover waits for its proof and not
 * for a time. */
void array_on_warden(struct array *array, uint64_t now_us, bool answers);

/* What an operator asks. Each is answered by one operator_reply, at once or when it is done. The
 * volumes of a group that is received here move together: who asks for one moves all. */
void array_operator_move(struct array *array, uint64_t now_us, uint64_t handle, uint8_t volume,
                         uint8_t to);
void array_operator_accept_loss(struct array *array, uint64_t now_us, uint64_t handle,
                                bool peer_is_dead);

/* What an operator may ask of a group; answered when it is done, and when it is an answer about a
 * cycle its text says which and the time of its cut.
 *
 *   SUSPEND   the primary only notes in its bitmap what hosts write, until
 *   RESUME    it is resumed
 *   FAILOVER  where the copy is: hosts are served here from now on, from the newest promoted cycle.
 *             Refused without `force` while the primary is heard, or when the copy is not
 *             consistent
 *   STAND     at the same place: what is shown stays as it is for half a minute, or until this
 *             controller is out. Refused as FAILOVER is, whatever the copy shows. Said to all the
 *             copies of a set before one looks which cut they can all go to
 *   REVERSE   after a failover: what differs is copied to the other array, which becomes the copy
 *   RESYNC    at the primary: everything (with `force`), or what is marked, is sent anew
 *
 * Asked of a controller that serves; the other one hears of it. */
enum group_action {
    GROUP_SUSPEND,
    GROUP_RESUME,
    GROUP_FAILOVER,
    GROUP_REVERSE,
    GROUP_RESYNC,
    GROUP_STAND,
};
void array_operator_group(struct array *array, uint64_t now_us, uint64_t handle, uint8_t group,
                          enum group_action action, bool force);

/* FAILOVER of a group in a set: to cut `cut`, which is the newest that any second array of the set
 * has promoted (array_copy_state(), cut). What is held here up to it is promoted first. Refused
 * when it is neither promoted nor held here, or when something newer was promoted; with cut 0 it is
 * array_operator_group()'s. */
void array_operator_failover(struct array *array, uint64_t now_us, uint64_t handle, uint8_t group,
                             uint64_t cut, bool force);

/* The group's role here. A shell keeps sessions to the other array while it is not
 * GROUP_ROLE_RECEIVING, and takes those that come from there in any role. */
enum group_role array_group_role(const struct array *array, uint8_t group);

/* Clean stop: volumes go to the peer if it is well, else everything is destaged; then
 * actions.stopped. */
void array_operator_stop(struct array *array, uint64_t now_us);

/* ---- questions ---- */

/* The whole state for `holdfast status`; see array/status.h. */
void array_status(const struct array *array, uint64_t now_us, struct array_status *status);

/* The little of it that a shell may want after every pump; costs nothing. */
struct array_glance {
    enum role role;
    uint64_t epoch;
    const char *reason;      /* the core's own, until the next call into it */
    uint64_t flush_messages; /* see struct array_status */
};
struct array_glance array_glance(const struct array *array);

/* How the data of groups shall leave, so that few requests of hosts meet them. */
enum copy_pace {
    COPY_FREELY,  /* no host is served, or there is no time to lose */
    COPY_NOT_NOW, /* a small piece after a pause: hosts wait for something that is under way */
    COPY_SOON,    /* hosts have just been answered: come back at once for COPY_NOW */
    COPY_NOW,     /* they have their answers and have asked for nothing yet: a small piece */
};
enum copy_pace array_copy_pace(const struct array *array, uint8_t group);

/* Whether a planned move of `volume` away from here is under way. */
bool array_moving(const struct array *array, uint8_t volume);

/* Whether this controller serves `volume` now: 1 yes, 0 the peer does, -1 nobody does or not known.
 */
int array_owner(const struct array *array, uint8_t volume);

/* Where a host's request to `volume` ends up now. */
enum array_service {
    ARRAY_SERVED_HERE,
    ARRAY_SERVED_THERE, /* shipped to the peer, which owns it */
    ARRAY_HELD,         /* between owners: requests wait */
    ARRAY_UNSERVED,     /* requests are refused */
};
enum array_service array_service(const struct array *array, uint8_t volume);

/* What hosts get of `volume` here, as far as its group decides it: a copy is refused, or shown, and
 * so is the primary of a group that was failed over at the other array. */
enum array_hosts { ARRAY_HOSTS_SERVED, ARRAY_HOSTS_READ_ONLY, ARRAY_HOSTS_REFUSED };
enum array_hosts array_hosts(const struct array *array, uint8_t volume);

/* The volume's state record: *length bytes, and which version. Valid until the next call into the
 * core. Version 0 with no bytes: it was never set. */
const void *array_state(const struct array *array, uint8_t volume, uint32_t *version,
                        uint32_t *length);

/* The first byte at or after `from` of a page of `volume` that the cache holds dirty, or `to`:
 * block status must not call such a range a hole. */
uint64_t array_next_cached(const struct array *array, uint8_t volume, uint64_t from, uint64_t to);

/* Every invariant that can be checked by looking at all of the state; NULL, or a sentence naming
 * what is wrong. Slow: for tests and the simulator. */
const char *array_check(const struct array *array);

/* Invariants 4, 6 and 7 over both: what `from` believes to be mirrored stands in the image of `to`,
 * byte for byte, and the image holds nothing that `from` does not know of, but for the volumes
 * whose bit is set in `moved` (by volume: they changed hands since the pair was formed). NULL when
 * that is so, or while something is on its way. Slow; only one program that holds both can ask. */
const char *array_check_mirror(const struct array *from, const struct array *to,
                               const bool moved[VOLUME_LIMIT]);

#endif
