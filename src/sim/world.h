/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The world that the two controllers of one array live in: virtual time, stores, a register, a
 * network, wardens and faults, all drawn from one seed. With groups there are two arrays: two such
 * worlds that share their time, the long way between them (copies.c), and what hosts have written.
 * It is a second shell around the same core: it performs the core's actions in the order that
 * array.h promises, and holds no copy of any of the core's logic. One thread, no clock, no
 * randomness but the seed's: the same seed gives the same trace. With a set of groups there are up
 * to four: two primary arrays, and a second one for both or one for each.
 *
 * Its parts: draw.c (what a seed means), world.c (events and controllers), disks.c (stores),
 * wires.c (link, warden, register), faults.c (what goes wrong and what the operator does), hosts.c
 * (who reads and writes), oracle.c (what they may see), sites.c (two arrays), copies.c (the long
 * way), cuts.c (what the second site may show). */

#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "array/array.h"
#include "base/generator.h"
#include "sim/oracle.h"

#include <setjmp.h>

enum fault_kind {
    FAULT_CRASH,     /* a controller's process dies; its warden lives */
    FAULT_MACHINE,   /* its machine dies: process, warden, network, without a word */
    FAULT_BOTH,      /* both processes at once */
    FAULT_PAUSE,     /* a controller stands still, then goes on as if nothing had happened */
    FAULT_BREAK,     /* one session of the link is reset */
    FAULT_PARTITION, /* nothing gets through, both ways */
    FAULT_ONE_WAY,   /* nothing gets through, one way */
    FAULT_REGISTER,  /* the register is out of reach, of one or both */
    FAULT_ERROR,     /* a range of a store fails */
    FAULT_SLOW,      /* a store is slow to answer */
    FAULT_POWER,     /* a store loses its power, and what was not flushed */
    FAULT_CORRUPT,   /* a message arrives changed, or only the first part of it */
    FAULT_MOVE,      /* the operator moves a volume */
    FAULT_STOP,      /* the operator stops a controller cleanly */
    FAULT_CUT,       /* a controller dies in the middle of performing its actions */
    FAULT_LATE,      /* an answer comes late, just before nothing comes any more */
    FAULT_CLOCK,     /* a controller's clock changes its speed, and may jump ahead a little */
    FAULT_OF_ARRAY,  /* the kinds before this are of one array, those from here on of two */
    FAULT_LONG_BREAK = FAULT_OF_ARRAY, /* a session of the long way is reset */
    FAULT_LONG_STALL,                  /* nothing gets to the other site, or back, or both */
    FAULT_LONG_SLOW,                   /* little gets through */
    FAULT_LONG_CORRUPT,                /* a batch arrives changed, or without its end */
    FAULT_SUSPEND,                     /* the operator suspends a group, or resumes it */
    FAULT_SITE,                        /* the first site is lost for good */
    FAULT_STRAY,                       /* a host comes to a copy */
    FAULT_CALL_BREAK,                  /* of a set: sessions of the coordinating array are reset */
    FAULT_CALL_STALL,                  /* nothing gets to the other members, or back, or both */
    FAULT_CALL_CORRUPT,                /* a message about a cut arrives changed */
    FAULT_CALL_STRIKE,                 /* a controller dies with a message about a cut */
    FAULT_COUNT
};

extern const char *const fault_name[FAULT_COUNT];

enum { ARRAYS_LIMIT = 4, TWINS_LIMIT = 2 };

/* CLOSELY: each seed is one of focus.h. */
enum groups_wish { GROUPS_NEVER, GROUPS_DRAWN, GROUPS_ALWAYS, GROUPS_CLOSELY };

struct world_options {
    uint64_t seed;
    enum groups_wish groups; /* whether there is a second array with a copy */
    bool sets;               /* and another primary array, whose group is of the same set */
    uint64_t steps;          /* host requests that end well until the faults stop */
    uint64_t phase_us;       /* or until so long has passed; 0: a minute */
    bool trace;              /* print everything that happens */
    bool core_trace;         /* and the core's own LOG_TRACE lines */
    uint32_t without;        /* bits 1 << FAULT_*: never happens */
    uint32_t check_every;    /* array_check() after every so many pumps; 0: drawn */
    /* Fault tests: the Nth of its kind fails; 0: none. */
    uint64_t fail_store;
    uint64_t fail_message;  /* lost with its session */
    uint64_t fail_status;   /* delivered, but its answer is lost with the session */
    uint64_t fail_register; /* no answer; done or not by turns */
    bool scripted; /* no faults but these; a fixed script of operator actions and one crash */
    struct listing *record;       /* NULL, or what happens is written there */
    const struct listing *replay; /* NULL, or what happens is read from there */
};

enum event_kind {
    EVENT_PUMP,
    EVENT_STORE_APPLY,
    EVENT_STORE_END,
    EVENT_MESSAGE,
    EVENT_STATUS,
    EVENT_LINK_DOWN,
    EVENT_LOGIN,
    EVENT_LINK_UP,
    EVENT_REGISTER_APPLY,
    EVENT_REGISTER_ANSWER,
    EVENT_PROOF,
    EVENT_FENCE,
    EVENT_WARDEN,
    EVENT_RESTART,
    EVENT_RESUME,
    EVENT_FAULT,
    EVENT_OPERATOR,
    EVENT_HOST,
    EVENT_LEAVE,
    EVENT_SHIP,
    EVENT_SHIPPED,
    EVENT_SHIP_DOWN,
    EVENT_SHIP_LOGIN,
    EVENT_COPY_LOGIN,
    EVENT_COPY_BATCH,
    EVENT_COPY_ANSWER,
    EVENT_COPY_DOWN,
    EVENT_COPY_RECORD,
    EVENT_SITES,
    EVENT_CALL,
    EVENT_CALL_LOGIN,
    EVENT_CALL_ANSWER,
    EVENT_CALL_DOWN,
    EVENT_CALL_STRIKE,
};

struct event {
    uint64_t at_us, sequence;
    enum event_kind kind;
    uint8_t who;    /* the controller it is for; 2: nobody */
    uint32_t index; /* of the operation, message or host */
    uint64_t stamp; /* incarnation or generation: an event of an old one is dropped */
};

struct controller {
    bool running, paused;
    bool stop_asked;
    bool machine_down;
    bool warden_answers; /* as it was last told of its peer's */
    uint64_t incarnation;
    void *memory;
    size_t memory_size;
    struct array *array;
    uint64_t resume_us;                /* while paused */
    bool late;                         /* performing what was held */
    bool accepted;                     /* it has told the operator that it accepts the loss */
    const struct actions *held;        /* paused between deciding and performing */
    uint64_t clock_offset, clock_rate; /* its clock = offset + world time * rate / 1,000,000 */
    uint64_t pump_us;                  /* when the next pump is due; UINT64_MAX: none */
    uint64_t pump_stamp;               /* the pump event that counts */
    uint64_t pumps_at_once;            /* in a row with a deadline that has passed already */
    uint32_t message; /* the peer's message that waits for the next pump; NO_INDEX: none */
    bool register_busy;
    bool swap_open;            /* it does not know yet what became of its swap */
    uint64_t register_seen_us; /* when it asked what the register last told it */
    uint32_t writes_in_flight, reads_in_flight;
    /* Seen after the last pump. */
    enum role role;
    uint64_t epoch;
    bool moving[VOLUME_LIMIT];
    uint64_t solo_done[STORE_LIMIT]; /* disk.done_sequence when it began to serve alone */
    uint64_t solo_epoch;             /* the latest epoch in which it served alone */
    uint64_t down_since_us;
    uint64_t last_dead;      /* the incarnation that died last; 0: none */
    uint64_t last_watcher;   /* the peer's incarnation that was there to see it */
    uint64_t last_dead_ops;  /* its store operations that are still under way */
    bool last_dead_provable; /* its warden outlived it */
};

/* One store operation under way. */
struct operation {
    bool used;
    uint8_t who;
    bool landed, over;
    uint64_t incarnation, epoch;
    struct store_action action;
    uint8_t *data;          /* WRITE: what was given; READ: what was found */
    struct iovec *iov;      /* where the core's bytes are */
    uint64_t done_sequence; /* FLUSH: the writes reported done before it was submitted */
    uint64_t log_entry;     /* WRITE: its entry in the store's log */
    enum store_result result;
    bool torn;
    uint64_t land_us;
};

/* A write that stands in the store's own cache. */
struct unflushed {
    uint64_t number; /* in order of landing */
    uint64_t done_sequence;
    uint64_t offset, length;
    uint8_t *data;
    uint8_t who;
    uint64_t incarnation;
};

struct disk {
    uint64_t size;
    uint8_t *content; /* what a read finds */
    uint8_t *durable; /* what a loss of power leaves; NULL: this seed has no such loss */
    struct unflushed *log;
    uint64_t log_count, log_room, next_number;
    uint64_t done_sequence;
    bool flush_lies[2]; /* power was lost since this controller's last flush: the next one fails */
    uint64_t error_until_us, error_from, error_to;
    bool error_reads, error_space;
    uint64_t slow_until_us;
};

/* A message from one controller to the other. */
struct message {
    bool used;
    uint8_t from;
    uint8_t buffer_id;
    bool corrupt, dropped, good;
    uint64_t
        number; /* which of all messages: an event about an older one in its place is dropped */
    uint64_t late_us; /* its sender died: it arrives when this is reached */
    uint32_t length;
    uint8_t *bytes;
    struct iovec *iov; /* where the sender keeps them */
    uint32_t iov_count;
    uint64_t session;
    uint64_t incarnation;
};

/* The iSCSI session in which one controller is the initiator. */
struct session {
    bool up;       /* the initiator believes so */
    bool breaking; /* cut, and the initiator will hear of it */
    bool lost;     /* and its target is gone: nothing sent on it arrives */
    bool given_up; /* its initiator resets it: what it carries may change from now on */
    uint64_t generation;
    uint32_t message; /* under way; NO_INDEX: none */
    uint64_t number;  /* of that message */
};

struct register_operation {
    bool used, applied, lost_request, lost_answer;
    uint8_t who;
    uint64_t asked_us;
    uint64_t incarnation;
    uint64_t partner; /* the other's incarnation when it was asked */
    bool empty;       /* who asked held no data then */
    struct register_action action;
    enum register_result result;
    struct register_record record;
};

struct rates {
    uint64_t mean_us[FAULT_COUNT]; /* 0: never */
    uint64_t link_us, link_jitter_us, link_spike_per_mille;
    uint64_t read_us, write_us, flush_us;
    uint64_t land_limit_us; /* a write lands within this of its submission, always */
    bool late;              /* writes use all of that limit */
    uint64_t torn_percent;
    uint64_t restart_us;
    uint64_t pump_delay_us;
    uint64_t proof_missing_percent;
    uint64_t worst_percent; /* a change of role brings a fault at once, so often */
    uint64_t skew_ppm;      /* how far a clock's speed may be off */
    bool leaves_listed;     /* who leaves a request, and when, stands in the listing */
    bool data_moves;        /* callers use array_host_move_data() */
};

struct statistics {
    uint64_t requests, completed, refused, crashes, pauses, takeovers, moves, stops, losses,
        store_operations;
    uint64_t shipped, compares, states;
    uint64_t group_seeds, group_requests, batches, replies[2], cuts, consistent, failovers;
    uint64_t calls, cut_replies[2], common_cuts, common_failovers, forced_failovers,
        hold_longest_us;
    uint64_t messages, register_operations, events, checks, faults[FAULT_COUNT];
    uint64_t done[HOST_OP_COUNT]; /* of `completed`, by kind */
};

struct calls;
struct copies;
struct cuts;
struct focus;
struct hosts;
struct listing;
struct sites;
struct ship_lane;

/* A group: the array whose hosts write to it in the beginning, and the one that has the copy; and
 * its number at each. */
struct twin {
    struct world *site[2];
    uint8_t group[2];
};

struct world {
    struct world_options options;
    struct world *root;    /* the first array's: the run ends there */
    struct world *next;    /* the next array's, or NULL */
    uint8_t number;        /* of this array: 0 is the root */
    bool second;           /* it has the copies in the beginning */
    bool destroyed;        /* the whole site, for good */
    struct sites *sites;   /* what the operator does with all; NULL: there is no other array */
    struct copies *copies; /* the long way; of all worlds */
    struct cuts *cuts;     /* of all */
    struct calls *calls;   /* between the arrays of a set; NULL: there is none */
    struct twin twins[TWINS_LIMIT]; /* the root's: every group that there is */
    uint8_t twin_count;
    struct focus *focus; /* of all, or NULL */
    struct generator draw, latency, chaos,
        traffic; /* of the configuration, delays, faults, hosts */
    uint64_t now_us, sequence;
    uint64_t events_at_once; /* since time last passed */
    struct event *events;
    uint32_t event_count, event_room;

    struct array_config config;
    struct rates rates;
    struct controller controllers[2];
    struct disk disks[STORE_LIMIT];
    struct operation *operations;
    uint32_t operation_room;
    struct session sessions[2];
    uint64_t path_heals_us[2]; /* from this controller to the other: nothing gets through before */
    struct message *messages;
    uint32_t message_room;
    struct ship_lane *lane;
    uint32_t state_done[VOLUME_LIMIT]; /* the newest version of its state record that a host was
                                          told of */
    struct register_record record;
    uint64_t member[2]; /* who holds the data of the record: by its incarnation; 0: not this one */
    uint64_t member_since_us[2];
    uint64_t register_down_us[2];
    uint64_t register_slow_us;
    struct register_operation register_operations[512];

    bool healing;   /* no more faults; everything must come to rest */
    bool finishing; /* clean stop of both; nobody restarts */
    uint64_t incarnations, operator_handle, operator_pending[2];
    uint64_t errors_injected, corrupt_next;
    uint64_t offline_since_us;
    uint64_t loss_epoch;    /* the register's when a loss was last accepted, and one more */
    uint64_t clock_jump_us; /* no clock jumps before this */
    uint64_t moved_epoch;   /* since this epoch began these volumes have changed hands */
    bool moved[VOLUME_LIMIT];
    bool cut_armed, cut_behind_batch, cut_behind_pairing; /* the next cut, and where it strikes */
    bool hold_armed[2]; /* a replay: the next pump with store operations is held */
    uint32_t finish;    /* the order of the clean stops at the end */

    struct hosts *hosts;
    uint32_t cell_bytes;                 /* the oracle's: no request begins or ends within one */
    struct oracle *oracle;               /* of all worlds */
    uint8_t oracle_volume[VOLUME_LIMIT]; /* what the oracle calls the volume */
    bool closed[VOLUME_LIMIT];           /* a copy: hosts are not served */
    struct statistics count;

    jmp_buf out;
    char failure[1024];
};

/* Draws a world from the seed, and with it the other arrays' when there are any. */
struct world *world_create(const struct world_options *options);
void world_destroy(struct world *world);

/* Prints every choice that was drawn. */
void world_print(const struct world *world);

/* Runs it to its end. NULL, or a sentence saying what was found. */
const char *world_run(struct world *world);

/* ---- for the world's parts ---- */

_Noreturn void world_fail(struct world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void world_trace(struct world *world, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

void world_event(struct world *world, uint64_t at_us, enum event_kind kind, uint8_t who,
                 uint32_t index, uint64_t stamp);

/* A number in [from, to]. */
uint64_t world_between(struct generator *generator, uint64_t from, uint64_t to);

/* The controller's clock. */
uint64_t world_clock(const struct world *world, uint8_t who);

/* Something happened to the core: it is pumped soon. */
void world_touch(struct world *world, uint8_t who);
/* And not at this instant: what else comes in it comes before. */
void world_touch_later(struct world *world, uint8_t who);

void world_start(struct world *world, uint8_t who);
/* `provable`: its warden lives and will say so. */
void world_kill(struct world *world, uint8_t who, bool provable);
void world_pause(struct world *world, uint8_t who, uint64_t for_us);

/* The dice of one thing of this instant, whatever else has thrown them before. */
void world_reseed(struct world *world, struct generator *generator, uint64_t salt);

/* It says that it serves the volume, in the same epoch as the other. */
bool world_serves(const struct world *world, uint8_t who, uint8_t volume);

/* A request was completed well: was this controller allowed to? */
void world_check_completion(struct world *world, uint8_t who, uint8_t volume);

/* Everything it was waiting for is done: pair paired, nothing under way. */
bool world_resting(const struct world *world);

char world_letter(uint8_t who);

/* A table that is full, made larger: `first` places when it has none, twice as many else. What is
 * new is zero. */
void *world_grow(void *table, uint32_t *room, size_t place_bytes, uint32_t first);

/* Something that arrives at this controller now is answered. */
bool world_answers(const struct world *world, uint8_t who);

/* Which site, for a sentence; and its name in a listing or a trace: "" is the first. */
const char *world_site(const struct world *world);
const char *world_name(uint8_t number);

/* The twin that a group of this array is of, and the group that a twin is here. */
uint8_t world_twin(const struct world *world, uint8_t group);
uint8_t world_group(const struct world *world, uint8_t twin);
/* The other array of a group, and the group's number there. */
struct world *world_far(const struct world *world, uint8_t group);
uint8_t world_far_group(const struct world *world, uint8_t group);
/* Whether the twin has a half at this array. */
bool world_has_twin(const struct world *world, uint8_t twin);

#endif
