/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* See failover.h. The copies of a set show one moment only when all of them go to the same cut: the
 * newest that any of them has promoted, because it then is held by all others. All are looked at
 * before one is told anything. Then each is told to stand, and they are looked at again: a primary
 * that lives may have had another cut promoted meanwhile, and from here on cannot. One that was
 * failed over to that cut already is left alone, so a call that got half way is said again. */

#include "cli/failover.h"

#include "base/limits.h"
#include "cli/client.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { COPY_LIMIT = GROUP_LIMIT * CLI_FILE_LIMIT, NAME_SIZE = 64, LOOK_MS = 5000 };

/* One copy of a group of the set, as the controllers of its array tell it. */
struct copy {
    const struct failover_array *array;
    char array_name[NAME_SIZE], group[NAME_SIZE], from[NAME_SIZE];
    uint32_t place;
    bool here;        /* a controller there holds it ... */
    uint32_t holder;  /* ... this one */
    bool failed_over; /* it was, already */
    bool original;    /* it is none: hosts write it there */
    bool mixed;       /* it is part old, part new */
    uint64_t shown, held;
};

struct plan {
    const char *name;
    bool force, bad;
    bool said; /* what stands in the way has been said before */
    uint32_t timeout_ms;
    uint32_t place_count, copy_count;
    char places[SET_LIMIT][NAME_SIZE]; /* the primary arrays */
    struct copy copies[COPY_LIMIT];
    uint64_t cut;
    char unreached[CLI_FILE_LIMIT][TRACE_LINE]; /* why no controller of that array answers */
    char member_of[NAME_SIZE]; /* the set of a group that has the name which was asked for */
};

static void copy_text(char text[NAME_SIZE], const json_t *object, const char *key)
{
    const char *value = json_string_value(json_object_get(object, key));
    snprintf(text, NAME_SIZE, "%s", value ? value : "?");
}

static uint64_t number(const json_t *object, const char *key)
{
    json_int_t value = json_integer_value(json_object_get(object, key));
    return value > 0 ? (uint64_t)value : 0;
}

static bool says(const json_t *object, const char *key, const char *word)
{
    const char *value = json_string_value(json_object_get(object, key));
    return value && strcmp(value, word) == 0;
}

/* What stands in the way; with --force it is only said. */
#define OBJECT(plan, ...)                                                                          \
    do {                                                                                           \
        (plan)->bad = true;                                                                        \
        if ((plan)->said)                                                                          \
            break;                                                                                 \
        fprintf(stderr, "set %s: ", (plan)->name);                                                 \
        fprintf(stderr, __VA_ARGS__);                                                              \
        fputc('\n', stderr);                                                                       \
    } while (0)

/* ---- looking ---- */

static void take_places(struct plan *plan, const struct failover_array *array, const json_t *set)
{
    const json_t *members = json_object_get(set, "members");
    size_t count = json_array_size(members);
    bool first = plan->place_count == 0, same = count > 0 && count <= SET_LIMIT;
    for (size_t i = 0; same && i < count; i++) {
        char name[NAME_SIZE];
        copy_text(name, json_array_get(members, i), "array");
        if (first)
            snprintf(plan->places[i], NAME_SIZE, "%s", name);
        same = strcmp(plan->places[i], name) == 0;
    }
    if (first && same)
        plan->place_count = (uint32_t)count;
    if (!same || plan->place_count != count)
        OBJECT(plan, "%s names other primary arrays than the other files", array->config);
}

static struct copy *find_copy(struct plan *plan, const struct failover_array *array,
                              const char *group)
{
    for (uint32_t i = 0; i < plan->copy_count; i++)
        if (plan->copies[i].array == array && strcmp(plan->copies[i].group, group) == 0)
            return &plan->copies[i];
    if (plan->copy_count == COPY_LIMIT)
        return NULL;
    struct copy *copy = &plan->copies[plan->copy_count++];
    *copy = (struct copy){.array = array};
    snprintf(copy->group, NAME_SIZE, "%s", group);
    return copy;
}

static void take_group(struct plan *plan, const struct failover_array *array, uint32_t controller,
                       const json_t *status, const json_t *group)
{
    const json_t *set = json_object_get(group, "set");
    char name[NAME_SIZE];
    copy_text(name, group, "name");
    if (strcmp(name, plan->name) == 0 && json_is_object(set) && says(group, "role", "receiving") &&
        number(group, "era") % 2 == 1)
        copy_text(plan->member_of, set, "name");
    if (!says(set, "name", plan->name))
        return;
    struct copy *copy = find_copy(plan, array, name);
    if (!copy)
        return;
    if (copy->array_name[0] == '\0')
        take_places(plan, array, set);
    copy_text(copy->array_name, status, "array");
    copy_text(copy->from, group, "array");
    copy->place = (uint32_t)number(set, "place");
    copy->original =
        copy->place < plan->place_count && strcmp(plan->places[copy->place], copy->array_name) == 0;
    copy->failed_over |= !says(group, "role", "receiving");
    bool here = json_is_true(json_object_get(set, "here"));
    if (here || copy->failed_over)
        copy->shown = max_u64(copy->shown, number(set, "shown_cut"));
    if (!here)
        return;
    copy->here = true;
    copy->holder = controller;
    copy->held = number(set, "held_cut");
    copy->mixed =
        says(group, "condition", "initial copy") || says(group, "condition", "resynchronising");
}

static void look(struct plan *plan, const struct failover_array *array, char why[TRACE_LINE])
{
    uint32_t reached = 0, timeout_ms = min_u32(plan->timeout_ms, LOOK_MS);
    for (uint32_t i = 0; i < CLI_CONTROLLERS; i++) {
        json_t *status = client_status(array->sockets[i], timeout_ms, why);
        size_t index;
        json_t *group;
        reached += status != NULL;
        json_array_foreach(json_object_get(status, "groups"), index, group)
        {
            take_group(plan, array, i, status, group);
        }
        json_decref(status);
    }
    if (reached > 0)
        why[0] = '\0';
}

/* ---- judging ---- */

static void judge_places(struct plan *plan)
{
    for (uint32_t place = 0; place < plan->place_count; place++) {
        uint32_t count = 0;
        for (uint32_t i = 0; i < plan->copy_count; i++)
            count += plan->copies[i].place == place && !plan->copies[i].original;
        if (count == 0)
            OBJECT(plan,
                   "the copy of what is at array %s is not at the arrays asked; name its array's "
                   "file with --config",
                   plan->places[place]);
        else if (count > 1)
            OBJECT(plan, "%u copies of what is at array %s are at the arrays asked", count,
                   plan->places[place]);
    }
}

static void judge_copy(struct plan *plan, struct copy *copy)
{
    if (copy->original) {
        OBJECT(plan, "group %s at array %s is no copy; name the arrays that hold the copies",
               copy->group, copy->array_name);
        return;
    }
    if (!copy->failed_over && !copy->here)
        OBJECT(plan, "no controller of array %s that answers holds group %s", copy->array_name,
               copy->group);
    else if (copy->mixed && !copy->failed_over)
        OBJECT(plan, "group %s at array %s is part old, part new: what differs is still being sent",
               copy->group, copy->array_name);
    else if (plan->cut == 0)
        OBJECT(plan, "no cut of the set came whole; the copy %s at array %s stands alone",
               copy->group, copy->array_name);
    else if (copy->shown != plan->cut && (copy->failed_over || copy->held < plan->cut))
        OBJECT(plan,
               "group %s at array %s %s cut %" PRIu64 " and %s up to %" PRIu64
               ", so it cannot go to cut %" PRIu64,
               copy->group, copy->array_name, copy->failed_over ? "was failed over to" : "shows",
               copy->shown, copy->failed_over ? "holds none" : "holds", copy->held, plan->cut);
}

static bool goes_to_the_cut(const struct plan *plan, const struct copy *copy)
{
    return plan->cut > 0 && (copy->shown == plan->cut || copy->held >= plan->cut);
}

/* ---- telling ---- */

static bool tell(const struct plan *plan, const struct copy *copy, const char *action)
{
    bool stands = strcmp(action, "stand") == 0;
    char why[TRACE_LINE] = "no controller answers";
    for (uint32_t i = 0; i < CLI_CONTROLLERS; i++) {
        uint32_t which = (copy->holder + i) % CLI_CONTROLLERS;
        json_t *request =
            json_pack("{ssssss}", "command", "group", "group", copy->group, "action", action);
        CHECK(request);
        if (!stands && goes_to_the_cut(plan, copy))
            json_object_set_new(request, "cut", json_integer((json_int_t)plan->cut));
        if (plan->force)
            json_object_set_new(request, "force", json_true());
        json_t *reply = client_request(copy->array->sockets[which], request, plan->timeout_ms, why);
        bool ok = json_is_true(json_object_get(reply, "ok"));
        const char *text = json_string_value(json_object_get(reply, "text"));
        if (reply)
            snprintf(why, sizeof why, "%s", text ? text : "done");
        bool last_word = reply && copy->here; /* the other one would only name this one */
        json_decref(reply);
        if (!ok && last_word)
            break;
        if (!ok)
            continue;
        if (!stands)
            printf("array %s, group %s: %s\n", copy->array_name, copy->group, why);
        return true;
    }
    fflush(stdout);
    fprintf(stderr, "array %s, group %s: refused: %s\n", copy->array_name, copy->group, why);
    return false;
}

static int carry_out(const struct plan *plan)
{
    if (plan->cut > 0)
        printf("set %s: all copies go to cut %" PRIu64 "\n", plan->name, plan->cut);
    for (uint32_t i = 0; i < plan->copy_count; i++) {
        const struct copy *copy = &plan->copies[i];
        if (copy->original)
            continue;
        if (copy->failed_over) {
            printf("array %s, group %s: it was failed over before\n", copy->array_name,
                   copy->group);
            continue;
        }
        if (tell(plan, copy, "failover"))
            continue;
        fprintf(
            stderr,
            "set %s: not all of it is failed over; say the same again when the reason is gone\n",
            plan->name);
        return CLI_FAILED;
    }
    return CLI_DONE;
}

/* ---- all of it ---- */

static void look_and_judge(struct plan *plan, const struct failover_array *arrays, uint32_t count)
{
    plan->bad = false;
    plan->place_count = plan->copy_count = 0;
    plan->cut = 0;
    for (uint32_t i = 0; i < count; i++)
        look(plan, &arrays[i], plan->unreached[i]);
    if (plan->copy_count == 0)
        return;
    for (uint32_t i = 0; i < plan->copy_count; i++)
        plan->cut = max_u64(plan->cut, plan->copies[i].shown);
    for (uint32_t i = 0; i < count; i++)
        if (plan->unreached[i][0] != '\0')
            OBJECT(plan, "no controller of %s answers: %s", arrays[i].config, plan->unreached[i]);
    judge_places(plan);
    for (uint32_t i = 0; i < plan->copy_count; i++)
        judge_copy(plan, &plan->copies[i]);
}

static bool all_stand(const struct plan *plan)
{
    bool all = true;
    for (uint32_t i = 0; i < plan->copy_count; i++) {
        const struct copy *copy = &plan->copies[i];
        if (!copy->original && !copy->failed_over && copy->here)
            all &= tell(plan, copy, "stand");
    }
    return all;
}

int failover_set(const char *name, const struct failover_array *arrays, uint32_t count, bool force,
                 uint32_t timeout_ms, bool *found)
{
    static struct plan plan;
    plan = (struct plan){.name = name, .force = force, .timeout_ms = timeout_ms};
    look_and_judge(&plan, arrays, count);
    *found = plan.copy_count > 0 || (plan.member_of[0] != '\0' && !force);
    if (plan.copy_count == 0) {
        if (*found)
            fprintf(stderr,
                    "group %s is one of set %s: `holdfast group failover %s` with a --config for "
                    "each array that holds a copy\nfails over all of them to one moment; --force "
                    "does it for this one alone\n",
                    name, plan.member_of, plan.member_of);
        return CLI_FAILED;
    }
    bool good = !plan.bad;
    if (good || force) {
        good = all_stand(&plan);
        plan.said = plan.bad;
        look_and_judge(&plan, arrays, count);
        good &= !plan.bad;
    }
    if (!good && !force) {
        fprintf(stderr,
                "set %s: nothing was done; --force fails over what can be, and only where all can "
                "go to one cut are the copies of one moment\n",
                name);
        return CLI_FAILED;
    }
    return carry_out(&plan);
}
