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
#include <string.h>

static struct config config, other;
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

static int on_check(const char *path, const char *other_path)
{
    if (!load(path))
        return CLI_FAILED;
    if (other_path &&
        !((config_load(other_path, &other, &errors) || report(other_path)) &&
          (config_compare(&config, path, &other, other_path, &errors) || report(path))))
        return CLI_FAILED;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < config.volume_count; i++)
        bytes += config.volumes[i].size_bytes / SECTOR_SIZE;
    if (config_secret_shows(path, &config))
        fprintf(stderr,
                "%s: warning: everybody on this machine can read the secret in it; "
                "let only the service read it (chmod 0640 or 0600)\n",
                path);
    printf("%s: ok\n", path);
    printf("array %s: %u volume%s of %" PRIu64 " MiB on %u store%s; cache %" PRIu64
           " MiB, lease %u ms, link %s\n",
           config.name, config.volume_count, config.volume_count == 1 ? "" : "s", bytes / 2048,
           config.store_count, config.store_count == 1 ? "" : "s", config.cache_bytes >> 20,
           config.lease_ms, config.secret[0] ? "authenticated" : "not authenticated");
    uint32_t portals = config.controllers[0].iscsi_count + config.controllers[1].iscsi_count;
    if (portals > 0)
        printf("iSCSI: %u portal%s, %u host%s%s\n", portals, portals == 1 ? "" : "s",
               config.host_count, config.host_count == 1 ? "" : "s",
               config.host_count == 0 ? ": only loopback addresses are let in" : "");
    if (other_path)
        printf("%s: the groups of both fit each other\n", other_path);
    return CLI_DONE;
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
