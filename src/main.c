/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* The program: joins what the operator typed (cli/) with what a controller is (shell/). Nothing but
 * main() knows both. */

#include "base/check_report.h"
#include "cli/cli.h"
#include "cli/demo.h"
#include "shell/config.h"
#include "shell/run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct config config;
static struct config_errors errors;

_Static_assert((int)CLI_SOCKET_SIZE == (int)ADDRESS_PATH_SIZE, "both are sun_path");
_Static_assert((int)CLI_CONTROLLERS == (int)CONTROLLER_COUNT, "a and b");

static void on_failed_check(const char *expression, const char *file, int line)
{
    fprintf(stderr, "holdfast: BUG: %s:%d: %s does not hold; ending at once\n", file, line,
            expression);
}

static bool report(const char *path)
{
    for (uint32_t i = 0; i < errors.count; i++)
        fprintf(stderr, "%s\n", errors.text[i]);
    if (errors.total > errors.count)
        fprintf(stderr, "%s: and %u more mistakes\n", path, errors.total - errors.count);
    return false;
}

static bool load(const char *path)
{
    return config_load(path, &config, &errors) || report(path);
}

static bool on_sockets(const char *path, char sockets[CLI_CONTROLLERS][CLI_SOCKET_SIZE])
{
    if (!load(path))
        return false;
    for (int i = 0; i < CONTROLLER_COUNT; i++)
        config_control_path(&config, i, sockets[i]);
    return true;
}

static void print_config(const char *path, const struct config *given)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < given->volume_count; i++)
        bytes += given->volumes[i].size_bytes / SECTOR_SIZE;
    if (config_secret_shows(path, given))
        fprintf(stderr,
                "%s: warning: everybody on this machine can read the secret in it; "
                "let only the service read it (chmod 0640 or 0600)\n",
                path);
    printf("%s: ok\n", path);
    printf("array %s: %u volume%s of %" PRIu64 " MiB on %u store%s; cache %" PRIu64
           " MiB, lease %u ms, link %s\n",
           given->name, given->volume_count, given->volume_count == 1 ? "" : "s", bytes / 2048,
           given->store_count, given->store_count == 1 ? "" : "s", given->cache_bytes >> 20,
           given->lease_ms, given->secret[0] ? "authenticated" : "not authenticated");
    uint32_t portals = given->controllers[0].iscsi_count + given->controllers[1].iscsi_count;
    if (portals > 0)
        printf("iSCSI: %u portal%s, %u host%s%s\n", portals, portals == 1 ? "" : "s",
               given->host_count, given->host_count == 1 ? "" : "s",
               given->host_count == 0 ? ": only loopback addresses are let in" : "");
}

static struct config *load_more(const char *path)
{
    struct config *loaded = calloc(1, sizeof *loaded);
    CHECK(loaded);
    if (config_load(path, loaded, &errors))
        return loaded;
    report(path);
    free(loaded);
    return NULL;
}

/* Every two of them that have anything in common; and each has with one of the others. */
static bool compare_all(struct config *const *configs, const char *const *paths, uint32_t count)
{
    bool good = true;
    for (uint32_t i = 0; i < count; i++) {
        bool related = false;
        for (uint32_t j = 0; j < count; j++) {
            if (i == j || !config_related(configs[i], configs[j]))
                continue;
            related = true;
            if (i < j && !config_compare(configs[i], paths[i], configs[j], paths[j], &errors))
                good = report(paths[i]);
        }
        if (related)
            continue;
        fprintf(stderr, "%s: no group of it is copied to or from an array of the other files\n",
                paths[i]);
        good = false;
    }
    return good;
}

/* What is known of a set from these files: where its originals and its copies are. */
static void print_set(struct config *const *configs, uint32_t count,
                      const struct config_group *group)
{
    printf("set %s:", group->set);
    for (uint32_t place = 0; place < group->set_count; place++) {
        const char *name = group->set_arrays[place].name, *copy = NULL;
        bool there = false;
        for (uint32_t i = 0; i < count; i++)
            for (uint32_t j = 0; j < configs[i]->group_count; j++) {
                const struct config_group *one = &configs[i]->groups[j];
                if (strcmp(one->set, group->set) != 0 ||
                    config_set_place_of(configs[i], one) != (int)place)
                    continue;
                there |= !one->receives;
                copy = one->receives ? configs[i]->name : copy ? copy : one->array;
            }
        printf("%s array %s%s%s%s%s", place ? "," : "", name, place ? "" : " coordinates",
               copy ? ", its copy is at " : "", copy ? copy : "",
               there ? "" : " (not among these files)");
    }
    putchar('\n');
}

static void print_sets(struct config *const *configs, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        for (uint32_t j = 0; j < configs[i]->group_count; j++) {
            const struct config_group *group = &configs[i]->groups[j];
            bool first = group->set[0] != '\0';
            for (uint32_t k = 0; first && k <= i; k++)
                for (uint32_t l = 0; first && l < (k < i ? configs[k]->group_count : j); l++)
                    first = strcmp(configs[k]->groups[l].set, group->set) != 0;
            if (first)
                print_set(configs, count, group);
        }
}

static int on_check(const char *const *paths, uint32_t count)
{
    struct config *configs[CLI_FILE_LIMIT];
    uint32_t loaded = 0;
    CHECK(count > 0 && count <= CLI_FILE_LIMIT);
    while (loaded < count && (configs[loaded] = load_more(paths[loaded])))
        loaded++;
    bool good = loaded == count && (count == 1 || compare_all(configs, paths, count));
    if (good) {
        print_config(paths[0], configs[0]);
        for (uint32_t i = 1; i < count; i++)
            printf("%s: ok\n", paths[i]);
        print_sets(configs, count);
    }
    for (uint32_t i = 0; i < loaded; i++)
        free(configs[i]);
    return good ? CLI_DONE : CLI_FAILED;
}

static int on_run(const char *path, int controller)
{
    return load(path) ? shell_run(&config, controller) : CLI_FAILED;
}

int main(int argc, char **argv)
{
    static const struct cli_hooks hooks = {
        .version = HOLDFAST_VERSION,
        .sockets = on_sockets,
        .check = on_check,
        .run = on_run,
        .demo = demo_run,
    };
    check_on_failure(on_failed_check);
    return cli_main(argc, argv, &hooks);
}
