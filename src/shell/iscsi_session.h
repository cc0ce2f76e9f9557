/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Inside the iSCSI server; between iscsi_server.c, iscsi_session.c, iscsi_task.c and iscsi_manage.c
 * only.
 *
 *     iscsi_server.c   portals, who is let in, the sweep, whose turn it is
 *     iscsi_session.c  one connection: bytes, events, its end
 *     iscsi_task.c     one SCSI command: the steps of scsi/, requests to the core, the answer
 *     iscsi_manage.c   task management, the end of a nexus, what a change of a record ends */

#ifndef SHELL_ISCSI_SESSION_H
#define SHELL_ISCSI_SESSION_H

#include "front/iscsi_target.h"
#include "scsi/scsi.h"
#include "shell/buffers.h"
#include "shell/handle.h"
#include "shell/iscsi_server.h"
#include "shell/state_file.h"

enum {
    ISCSI_SESSION_LIMIT = 8192, /* connections, logged in or not */
    ISCSI_LOGIN_LIMIT = 256,    /* of them in their login phase, which takes 20 KiB more: when one
                                   more comes, the oldest goes */
    ISCSI_LOGIN_MS = 15000,     /* from accept to the end of the login */
    ISCSI_PING_MS = 20000,      /* a host that says nothing for so long is asked */
    ISCSI_PONG_MS = 15000,      /* and has so long to answer */
    ISCSI_STUCK_MS = 30000,     /* a host that takes nothing for so long is dropped */
    ISCSI_DATA_MS = 30000,      /* and one that sends nothing while a command waits for its data */
    ISCSI_ROOM_MS = 2000,    /* a command that finds no room for so long is answered BUSY, so that
                                task management behind it gets through */
    ISCSI_MANAGE_MS = 10000, /* a function that cannot be done in that time is answered so:
                                shorter than the hosts' own limits (open-iscsi: 15 s) */
    ISCSI_OLD_MS = 10000, /* a new session waits for the end of the old one's commands: a store that
                             hangs must not keep the host from its other volumes */
    /* A session that has buffers is lent more while it has at most ISCSI_SHARE times what is left
     * then beside ISCSI_FIRST_BYTES, which are kept for those that have none. So a few hosts that
     * never send their data leave others enough. */
    ISCSI_SHARE = 4,
    ISCSI_FIRST_BYTES = 64 * 1024 * 1024,
    ISCSI_DRAIN_MS = 5000, /* for the last bytes of a session that has logged out */
    ISCSI_SWEEP_MS = 500,
    ISCSI_LOGOUT_S = 2, /* how long hosts are given when they are asked to log out */
    ISCSI_ACCEPT_RETRY_MS = 100,

    ISCSI_WINDOW = 128,                     /* commands of a session */
    ISCSI_TRANSFER_BYTES = 8 * 1024 * 1024, /* the most that one command moves */
    ISCSI_INPUT_FIRST = 4096,               /* an idle session's input buffer ... */
    ISCSI_INPUT_MOST = 256 * 1024,          /* ... and that of one that sends much at a time */
    ISCSI_INPUT_AFTER = 4096,               /* received behind data that go to their own place */
    ISCSI_INLINE_STEPS = 64,     /* of one command in one go: then others have their turn */
    ISCSI_MANAGE_LIMIT = 256,    /* functions under way, each with the memory for a record */
    ISCSI_MAP_EXTENTS = 256,     /* pieces that one GET LBA STATUS is answered from */
    ISCSI_REFUSED_SAY_MS = 5000, /* at most one log line about refused logins in so long */
};
_Static_assert((int)ISCSI_TRANSFER_BYTES + (int)SCSI_PARAMETER_BYTES <= (int)HOST_IO_BYTES,
               "the buffer of every command can be had");
_Static_assert((int)ISCSI_SESSION_LIMIT <= (int)SCSI_NEXUS_LIMIT, "every session can have a nexus");

struct iscsi_session;

/* One SCSI command. Its index is in the core's handle. It is free again when all three have let go
 * of it: scsi/ (over), the core (in_core) and the front (front == NULL). */
struct iscsi_task {
    struct scsi_task scsi;
    struct iscsi_session *session; /* NULL: free, or the session has gone and left it behind */
    struct iscsi_target_task *front;
    struct buffer *buffer;              /* what scsi/ works on */
    struct buffer *early;               /* data that came ahead of the command's turn */
    struct iscsi_task *previous, *next; /* of the session, in the order of arrival */
    struct iscsi_task *next_done;
    struct iscsi_manage *awaited_by; /* a function that is answered when this has ended */
    uint64_t since_us;
    uint64_t detail;         /* of the request that has ended */
    enum host_result result; /* ... */
    enum scsi_step step;     /* what a parked task goes on with */
    uint32_t index, next_free;
    bool used;
    bool begun;      /* scsi/ knows it */
    bool over;       /* answered or aborted */
    bool in_core;    /* a request of it is in the core */
    bool listed;     /* stands among the done ones */
    bool may_change; /* that request may still change the volume: its data are not in the cache */
    bool data_due;   /* waits for the host's data */
    bool parked;     /* waits for commands before it (SAM-5 8.6) */
};

/* A task management function, the end of a nexus, or upkeep. */
struct iscsi_manage {
    struct scsi_manage scsi;
    struct iscsi_server *server;
    struct iscsi_session *session;     /* NULL: gone, or upkeep */
    struct iscsi_target_task *request; /* to be answered; NULL: nothing, or answered already */
    struct iscsi_manage *next_done;
    uint64_t since_us;
    uint32_t index;
    uint32_t awaited; /* tasks that must end first */
    enum host_result result;
    bool over;    /* scsi/ is through */
    bool in_core; /* its request is */
    bool cold;    /* TARGET COLD RESET: all sessions end with it */
    uint8_t buffer[VOLUME_STATE_BYTES];
};

struct iscsi_session {
    struct op receive, send;
    struct iscsi_server *server;
    struct iscsi_session *previous, *next; /* all sessions */
    struct iscsi_session *next_dirty, *next_waiting;
    int descriptor; /* -1: closed, and what it left behind is being cleared up */
    bool is_dirty, is_waiting;
    bool receiving, sending; /* operations under way */
    bool send_waits;         /* the socket had no room: this send waits for some */
    bool poll_first;         /* the last receive emptied the socket */
    bool input_short;        /* the last receive filled the input buffer */
    bool feed_waits;         /* bytes are left that the target takes once it has sent something */
    bool logged_in;          /* full-feature phase */
    bool waits_for_old;      /* the session that it takes the place of has not gone yet */
    bool recheck;            /* a parked command may go on */
    bool ending;             /* closed when all is sent */
    bool closing;            /* shut down; freed when nothing is under way */
    bool loss_done;          /* what the nexus had reserved is given back */
    bool clearing;           /* inside iscsi_session_clear_up() */
    bool resume;             /* feed again at the next sweep */
    bool is_discovery;       /* counted as one */
    uint16_t tsih;           /* 0: none */
    struct iscsi_manage *loss;
    uint64_t since_us;    /* accepted, waiting for the old session, or ending since */
    uint64_t received_us; /* when the host last sent something */
    uint64_t sent_us;     /* when it last took something */
    uint64_t pinged_us, stalled_us;
    uint64_t number; /* higher is newer */

    uint8_t *input;
    uint32_t input_size, input_start, input_end, direct_bytes;
    struct msghdr receive_message, send_message;
    struct iovec receive_iov[2];
    size_t send_bytes;

    const struct config_host *host; /* NULL: none is configured */
    struct scsi_nexus *nexus;       /* NULL: not logged in, or a discovery session */
    struct iscsi_task *first, *last;
    uint32_t task_count;
    uint64_t lent_bytes;               /* the buffers of its commands */
    uint32_t ordered_count;            /* ORDERED or HEAD OF QUEUE, and not over */
    struct iscsi_target_task *stalled; /* a command that waits for room */
    char who[ADDRESS_TEXT_SIZE];

    struct iscsi_target_login *login; /* while it logs in */
    struct iscsi_target_task *slots;
    struct iscsi_target target; /* large, and mostly untouched while idle */
};

struct iscsi_listener {
    struct op op;
    struct iscsi_server *server;
    struct timer retry;
    const struct address *address;
    int descriptor;
};

struct iscsi_server {
    struct loop *loop;
    struct array *array;
    const struct stores *stores;
    const struct config *config;
    int controller;

    struct scsi *scsi;
    struct scsi_config scsi_config;
    struct iscsi_crypto crypto;
    char target_name[SCSI_TARGET_NAME_SIZE];
    char portal_texts[CONTROLLER_COUNT * CONFIG_ISCSI_LIMIT][ADDRESS_TEXT_SIZE];
    struct iscsi_target_portal portals[CONTROLLER_COUNT * CONFIG_ISCSI_LIMIT];
    struct iscsi_target_node node;

    struct iscsi_listener listeners[CONFIG_ISCSI_LIMIT];
    struct timer sweep;
    struct iscsi_session *sessions; /* all; newest first */
    struct iscsi_session *dirty;    /* have something to send, or to be cleared up */
    struct iscsi_session *waiting_first, *waiting_last; /* for room, in turn */
    uint32_t session_count;
    bool stopping;  /* no new session */
    bool abandoned; /* the core has to be pumped for it */
    bool upkeep_due;
    struct iscsi_manage *upkeep;

    struct state_files files;
    bool saved; /* a record has become durable: look at what waited for it */

    struct buffers buffers;
    struct iscsi_task *tasks;
    uint32_t task_limit, task_used, free_task;
    struct iscsi_task *done_first, *done_last;
    struct iscsi_manage *manages[ISCSI_MANAGE_LIMIT];
    uint32_t manage_used;
    struct iscsi_manage *manage_done;
    struct iscsi_task *saving; /* their change of a record is not on the disk yet */
    uint64_t changed[VOLUME_LIMIT / 64];
    bool any_changed;

    uint64_t tsih_used[1 << 10]; /* a bit each */
    uint16_t next_tsih;
    uint64_t next_number;
    uint64_t refused_say_us;
    uint32_t refused_unsaid;
    struct iscsi_counts counts;
};

/* ---- iscsi_server.c ---- */

/* IDENTIFY: let the host in or not. */
void iscsi_server_identify(struct iscsi_server *server, struct iscsi_session *session);
/* The full-feature phase begins: ends the session that this one takes the place of. */
void iscsi_server_logged_in(struct iscsi_server *server, struct iscsi_session *session);
/* Room for one more command, whatever it is. */
bool iscsi_server_has_room(const struct iscsi_server *server);
void iscsi_server_wait(struct iscsi_server *server, struct iscsi_session *session);
void iscsi_server_dirty(struct iscsi_server *server, struct iscsi_session *session);
/* The session is about to be freed: whoever waited for its end goes on. */
void iscsi_server_forget(struct iscsi_server *server, struct iscsi_session *session);

/* ---- iscsi_session.c ---- */

/* Takes over the accepted descriptor. */
void iscsi_session_start(struct iscsi_server *server, int descriptor);
/* Feed what has arrived as far as it goes, then receive more. */
void iscsi_session_process(struct iscsi_session *session);
/* Start sending what there is, if nothing is being sent. May free the session. */
void iscsi_session_flush(struct iscsi_session *session);
/* Drop the connection. `why` NULL: in order. */
void iscsi_session_close(struct iscsi_session *session, const char *why);
/* Send what is left, then close. */
void iscsi_session_end(struct iscsi_session *session);
/* Whether the command that it waits with finds room now. */
bool iscsi_session_finds_room(const struct iscsi_session *session);
/* One more look at what keeps a closed session from being freed. */
void iscsi_session_clear_up(struct iscsi_session *session);

/* ---- iscsi_task.c ---- */

/* Whether a command of the session waits for data of the host. */
bool iscsi_task_data_due(const struct iscsi_session *session);
/* A new command of the session; there is room. */
void iscsi_task_command(struct iscsi_session *session, struct iscsi_target_task *front);
void iscsi_task_early(struct iscsi_session *session, struct iscsi_target_task *front);
void iscsi_task_data(struct iscsi_session *session, struct iscsi_target_task *front);
/* The front is through with it. */
void iscsi_task_released(struct iscsi_session *session, struct iscsi_target_task *front);
/* Whether a session that has as many buffers as this one may be given one for the command. What it
 * is refused is kept for sessions that have fewer. */
bool iscsi_task_has_share(const struct iscsi_session *session,
                          const struct iscsi_target_task *front);
/* The answer to a command for which there is no task: BUSY, or TASK SET FULL. */
void iscsi_task_refuse(struct iscsi_session *session, struct iscsi_target_task *front,
                       enum scsi_status status);
/* The request of a task has ended; what it changed was told to scsi/ before. */
void iscsi_task_go_on(struct iscsi_server *server, struct iscsi_task *task);
/* Let parked commands go on that have nobody before them any more. Whether any did. */
bool iscsi_task_unpark(struct iscsi_session *session);
/* End it without an answer. `awaited_by` (may be NULL) is told when nothing of it can change the
 * volume any more. */
void iscsi_task_abort(struct iscsi_task *task, struct iscsi_manage *awaited_by);
/* End it with TASK ABORTED. */
void iscsi_task_end_aborted(struct iscsi_task *task);
/* Data of it were lost on the way: end it with ABORTED COMMAND. */
void iscsi_task_damaged(struct iscsi_target_task *front);
/* The session's connection has gone, and nothing is received or sent any more. */
void iscsi_task_leave_all(struct iscsi_session *session);
void iscsi_task_free_if_over(struct iscsi_server *server, struct iscsi_task *task);

/* ---- iscsi_manage.c ---- */

/* MANAGE: a host's request. */
void iscsi_manage_request(struct iscsi_session *session);
/* The nexus goes: give back what it reserved. False: no room now, ask again. */
bool iscsi_manage_loss(struct iscsi_session *session);
/* A task that `manage` awaited has ended. */
void iscsi_manage_task_ended(struct iscsi_manage *manage);
/* The request of `manage` has ended. */
void iscsi_manage_go_on(struct iscsi_manage *manage);
/* The session has gone: nobody is there to be answered. */
void iscsi_manage_leave_all(struct iscsi_session *session);
/* Whether a function of the session is not through. */
bool iscsi_manage_of(const struct iscsi_session *session);
/* Answer what has taken too long. */
void iscsi_manage_sweep(struct iscsi_server *server);
/* Records, owners and services that changed, to scsi/; end the tasks that must end. Whether the
 * core got requests. */
bool iscsi_manage_changes(struct iscsi_server *server);

#endif
