/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* A SCSI host that does what it is told: it keeps any number of iSCSI sessions open through
 * libiscsi, sends commands and task management functions without waiting for one another, and says
 * what came back. The tests that tell it what to do are Python (tests/e2e/scsihost.py). It retries
 * nothing, hides no unit attention and reconnects nowhere: each answer is seen once.
 *
 * One line in, fields separated by blanks; one line out for each thing that happened:
 *
 *   open NAME URL INITIATOR [digest]        -> opened NAME | refused NAME WHY
 *   send NAME TAG CDB in BYTES              -> done NAME TAG STATUS SENSE RESIDUAL DATA
 *   send NAME TAG CDB out DATA
 *   send NAME TAG CDB none
 *   manage NAME TAG FUNCTION [OF_TAG]       -> managed NAME TAG RESPONSE
 *   close NAME                              -> closed NAME
 *   drop NAME                               -> dropped NAME
 *
 * and `lost NAME WHY` whenever a session ends by itself. CDB, DATA and SENSE are hexadecimal, `-`
 * when empty; the LUN is the URL's. STATUS is SCSI's, or `cancelled` when the session went first.
 */

#include <iscsi/iscsi.h>
#include <iscsi/scsi-lowlevel.h>

#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SESSIONS = 64,
    TASKS = 512,
    LINE = 4 << 20,
    FIELDS = 8,
    NAME_SIZE = 32,
    LOGIN_SECONDS = 3,
};

struct session {
    char name[NAME_SIZE];
    struct iscsi_context *iscsi; /* NULL: the place is free */
    int lun;
};

struct task {
    struct session *session; /* NULL: the place is free */
    char tag[NAME_SIZE];
    struct scsi_task *scsi; /* NULL: a task management function */
    uint8_t *out;
    uint32_t out_bytes;
};

static struct session sessions[SESSIONS];
static struct task tasks[TASKS];

_Noreturn static void give_up(const char *what, const char *detail)
{
    fprintf(stderr, "scsi-host: %s: %s\n", what, detail);
    exit(2);
}

static void copy_name(char *to, const char *from)
{
    if (strlen(from) >= NAME_SIZE)
        give_up("too long a name", from);
    memcpy(to, from, strlen(from) + 1);
}

static struct session *find_session(const char *name)
{
    for (int i = 0; i < SESSIONS; i++)
        if (sessions[i].iscsi != NULL && strcmp(sessions[i].name, name) == 0)
            return &sessions[i];
    return NULL;
}

static struct task *find_task(const struct session *session, const char *tag)
{
    for (int i = 0; i < TASKS; i++)
        if (tasks[i].session == session && strcmp(tasks[i].tag, tag) == 0)
            return &tasks[i];
    return NULL;
}

static struct task *new_task(struct session *session, const char *tag)
{
    for (int i = 0; i < TASKS; i++) {
        if (tasks[i].session == NULL) {
            tasks[i] = (struct task){.session = session};
            copy_name(tasks[i].tag, tag);
            return &tasks[i];
        }
    }
    give_up("too many tasks", tag);
}

static void free_task(struct task *task)
{
    if (task->scsi != NULL)
        scsi_free_scsi_task(task->scsi);
    free(task->out);
    *task = (struct task){0};
}

static void print_hex(const uint8_t *data, size_t size)
{
    if (size == 0)
        printf("-");
    for (size_t i = 0; i < size; i++)
        printf("%02x", data[i]);
}

static uint8_t digit(char letter)
{
    if (letter >= '0' && letter <= '9')
        return (uint8_t)(letter - '0');
    if (letter >= 'a' && letter <= 'f')
        return (uint8_t)(letter - 'a' + 10);
    give_up("not a hexadecimal digit", (char[]){letter, 0});
}

/* Decode a field of hexadecimal digits; the caller frees what it gets. */
static uint8_t *from_hex(const char *text, uint32_t *size)
{
    size_t digits = strcmp(text, "-") == 0 ? 0 : strlen(text);
    uint8_t *data = calloc(1, digits / 2 + 1);

    if (data == NULL || digits % 2 != 0)
        give_up("not whole bytes", text);
    for (size_t i = 0; i < digits; i++)
        data[i / 2] = (uint8_t)(data[i / 2] << 4 | digit(text[i]));
    *size = (uint32_t)(digits / 2);
    return data;
}

/* ---- commands ---- */

static void on_done(struct iscsi_context *iscsi, int status, void *data, void *private_data)
{
    struct task *task = private_data;
    const struct scsi_task *scsi = task->scsi;
    size_t size = scsi->datain.size > 0 ? (size_t)scsi->datain.size : 0;

    printf("done %s %s ", task->session->name, task->tag);
    if (status == SCSI_STATUS_CANCELLED || status == SCSI_STATUS_ERROR ||
        status == SCSI_STATUS_TIMEOUT) {
        printf("cancelled - 0 -\n");
    } else if (status == SCSI_STATUS_CHECK_CONDITION) {
        /* The data segment: the sense data's length in two bytes, then the sense data. */
        printf("%d ", status);
        print_hex(scsi->datain.data + 2, size > 2 ? size - 2 : 0);
        printf(" 0 -\n");
    } else {
        printf("%d - %zu ", status, scsi->residual);
        print_hex(scsi->datain.data, size);
        printf("\n");
    }
    free_task(task);
}

static void send_command(char **field, int fields)
{
    struct session *session = find_session(field[1]);
    struct task *task;
    uint32_t cdb_size, in_bytes = 0;
    uint8_t *cdb = from_hex(field[3], &cdb_size);
    int direction = SCSI_XFER_NONE;
    struct iscsi_data out;

    if (session == NULL) {
        printf("done %s %s cancelled - 0 -\n", field[1], field[2]);
        free(cdb);
        return;
    }
    task = new_task(session, field[2]);
    if (strcmp(field[4], "in") == 0 && fields == 6) {
        direction = SCSI_XFER_READ;
        in_bytes = (uint32_t)strtoul(field[5], NULL, 10);
    } else if (strcmp(field[4], "out") == 0 && fields == 6) {
        direction = SCSI_XFER_WRITE;
        task->out = from_hex(field[5], &task->out_bytes);
    }
    task->scsi = scsi_create_task((int)cdb_size, cdb, direction,
                                  (int)(direction == SCSI_XFER_READ ? in_bytes : task->out_bytes));
    free(cdb);
    out = (struct iscsi_data){.size = task->out_bytes, .data = task->out};
    if (task->scsi == NULL ||
        iscsi_scsi_command_async(session->iscsi, session->lun, task->scsi, on_done,
                                 direction == SCSI_XFER_WRITE ? &out : NULL, task) != 0) {
        printf("done %s %s cancelled - 0 -\n", field[1], field[2]);
        free_task(task);
    }
}

/* ---- task management ---- */

static void on_managed(struct iscsi_context *iscsi, int status, void *data, void *private_data)
{
    struct task *task = private_data;

    if (status == SCSI_STATUS_GOOD)
        printf("managed %s %s %u\n", task->session->name, task->tag, *(const uint32_t *)data);
    else
        printf("managed %s %s cancelled\n", task->session->name, task->tag);
    free_task(task);
}

/* The function is sent as it is: what libiscsi would cancel by itself stays pending, so that an
 * answer that must not come is seen. */
static void manage(char **field, int fields)
{
    static const struct {
        const char *name;
        enum iscsi_task_mgmt_funcs function;
    } functions[] = {
        {"abort", ISCSI_TM_ABORT_TASK},
        {"abort-set", ISCSI_TM_ABORT_TASK_SET},
        {"clear-set", ISCSI_TM_CLEAR_TASK_SET},
        {"lun-reset", ISCSI_TM_LUN_RESET},
        {"warm-reset", ISCSI_TM_TARGET_WARM_RESET},
        {"cold-reset", ISCSI_TM_TARGET_COLD_RESET},
    };
    struct session *session = find_session(field[1]);
    const struct task *other = NULL;
    struct task *task;

    if (session != NULL && fields == 5)
        other = find_task(session, field[4]);
    for (size_t i = 0; session != NULL && i < sizeof(functions) / sizeof(functions[0]); i++) {
        if (strcmp(functions[i].name, field[3]) != 0)
            continue;
        task = new_task(session, field[2]);
        if (iscsi_task_mgmt_async(session->iscsi, session->lun, functions[i].function,
                                  other ? other->scsi->itt : 0xffffffff,
                                  other ? other->scsi->cmdsn : 0, on_managed, task) == 0)
            return;
        free_task(task);
    }
    printf("managed %s %s cancelled\n", field[1], field[2]);
}

/* ---- sessions ---- */

/* Destroying the context answers every task that is left with `cancelled`. */
static void end_session(struct session *session)
{
    struct iscsi_context *iscsi = session->iscsi;

    iscsi_destroy_context(iscsi);
    for (int i = 0; i < TASKS; i++)
        if (tasks[i].session == session)
            free_task(&tasks[i]);
    session->iscsi = NULL;
}

/* The initiator port is the same whenever the name is: a registration outlives the session. */
static void set_isid(struct iscsi_context *iscsi, const char *initiator)
{
    uint32_t sum = 2166136261u;

    for (const char *at = initiator; *at != 0; at++)
        sum = (sum ^ (uint8_t)*at) * 16777619u;
    iscsi_set_isid_random(iscsi, sum & 0xffffff, sum >> 24);
}

static void open_session(char **field, int fields)
{
    struct session *session = NULL;
    struct iscsi_url *url;

    for (int i = 0; i < SESSIONS && session == NULL; i++)
        if (sessions[i].iscsi == NULL)
            session = &sessions[i];
    if (session == NULL)
        give_up("too many sessions", field[1]);
    copy_name(session->name, field[1]);
    session->iscsi = iscsi_create_context(field[3]);
    if (session->iscsi == NULL)
        give_up("no libiscsi context for", field[3]);
    url = iscsi_parse_full_url(session->iscsi, field[2]);
    if (url == NULL)
        give_up("not a URL", field[2]);
    session->lun = url->lun;
    iscsi_set_session_type(session->iscsi, ISCSI_SESSION_NORMAL);
    iscsi_set_noautoreconnect(session->iscsi, 1);
    iscsi_set_timeout(session->iscsi, LOGIN_SECONDS);
    set_isid(session->iscsi, field[3]);
    if (fields > 4)
        iscsi_set_header_digest(session->iscsi, ISCSI_HEADER_DIGEST_CRC32C);
    if (url->user[0] != 0)
        iscsi_set_initiator_username_pwd(session->iscsi, url->user, url->passwd);
    if (url->target_user[0] != 0)
        iscsi_set_target_username_pwd(session->iscsi, url->target_user, url->target_passwd);
    iscsi_set_targetname(session->iscsi, url->target);
    if (iscsi_connect_sync(session->iscsi, url->portal) != 0 ||
        iscsi_login_sync(session->iscsi) != 0) {
        printf("refused %s %s\n", field[1], iscsi_get_error(session->iscsi));
        end_session(session);
    } else {
        iscsi_set_timeout(session->iscsi, 0);
        printf("opened %s\n", field[1]);
    }
    iscsi_destroy_url(url);
}

static void close_session(char **field, bool politely)
{
    struct session *session = find_session(field[1]);

    if (session != NULL && politely)
        iscsi_logout_sync(session->iscsi);
    if (session != NULL)
        end_session(session);
    printf("%s %s\n", politely ? "closed" : "dropped", field[1]);
}

/* ---- the loop ---- */

static void obey(char *line)
{
    char *field[FIELDS], *rest = NULL;
    int fields = 0;

    for (char *word = strtok_r(line, " ", &rest); word != NULL && fields < FIELDS;
         word = strtok_r(NULL, " ", &rest))
        field[fields++] = word;
    if (fields >= 4 && strcmp(field[0], "open") == 0)
        open_session(field, fields);
    else if (fields >= 5 && strcmp(field[0], "send") == 0)
        send_command(field, fields);
    else if (fields >= 4 && strcmp(field[0], "manage") == 0)
        manage(field, fields);
    else if (fields == 2 && strcmp(field[0], "close") == 0)
        close_session(field, true);
    else if (fields == 2 && strcmp(field[0], "drop") == 0)
        close_session(field, false);
    else
        give_up("not understood", fields > 0 ? field[0] : "an empty line");
}

/* Take what stands on stdin and obey each whole line; false at its end. */
static bool read_orders(void)
{
    static char buffer[LINE];
    static size_t have;
    ssize_t got = read(STDIN_FILENO, buffer + have, LINE - have);
    char *newline;

    if (got <= 0)
        return false;
    have += (size_t)got;
    while ((newline = memchr(buffer, '\n', have)) != NULL) {
        size_t used = (size_t)(newline - buffer) + 1;

        *newline = 0;
        obey(buffer);
        have -= used;
        memmove(buffer, buffer + used, have);
    }
    if (have == LINE)
        give_up("too long a line", "stdin");
    return true;
}

int main(void)
{
    static struct pollfd wait[SESSIONS + 1];

    setvbuf(stdout, NULL, _IOLBF, 1 << 16);
    signal(SIGPIPE, SIG_IGN); /* a session that ends is an answer, not the end of us */
    for (;;) {
        wait[SESSIONS] = (struct pollfd){.fd = STDIN_FILENO, .events = POLLIN};
        for (int i = 0; i < SESSIONS; i++) {
            struct iscsi_context *iscsi = sessions[i].iscsi;

            wait[i] = (struct pollfd){.fd = iscsi ? iscsi_get_fd(iscsi) : -1};
            if (iscsi != NULL)
                wait[i].events = (short)iscsi_which_events(iscsi);
        }
        if (poll(wait, SESSIONS + 1, -1) < 0)
            give_up("poll", "failed");
        for (int i = 0; i < SESSIONS; i++) {
            if (sessions[i].iscsi == NULL || wait[i].revents == 0)
                continue;
            if (iscsi_service(sessions[i].iscsi, wait[i].revents) != 0) {
                printf("lost %s %s\n", sessions[i].name, iscsi_get_error(sessions[i].iscsi));
                end_session(&sessions[i]);
            }
        }
        if (wait[SESSIONS].revents != 0 && !read_orders())
            return 0;
    }
}
