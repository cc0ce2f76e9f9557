/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* From main() to the two processes of a controller: what both need is set here, before they part.
 */

#include "shell/run.h"

#include "base/check_report.h"
#include "shell/controller.h"
#include "shell/log.h"

#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

struct job {
    const struct config *config;
    int controller;
};

static void on_failed_check(const char *expression, const char *file, int line)
{
    log_say(LOG_ERROR, "BUG: %s:%d: %s does not hold; ending at once, the peer takes over", file,
            line, expression);
    abort();
}

static enum log_level least_level(void)
{
    return getenv("HOLDFAST_TRACE") ? LOG_TRACE : LOG_INFO;
}

static int run_child(void *context, const struct warden_ticket *ticket)
{
    const struct job *job = context;
    char name[16];
    snprintf(name, sizeof name, "holdfast-%s", controller_name(job->controller));
    prctl(PR_SET_NAME, name);
    snprintf(name, sizeof name, "holdfast %s", controller_name(job->controller));
    log_open(name, least_level());
    return controller_run(job->config, job->controller, ticket);
}

static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static bool pin(int cpu)
{
    if (cpu < 0)
        return true;
    cpu_set_t mask;
    CPU_ZERO(&mask);
    CPU_SET((size_t)cpu, &mask);
    return sched_setaffinity(0, sizeof mask, &mask) == 0;
}

int shell_run(const struct config *config, int controller)
{
    char name[32];
    snprintf(name, sizeof name, "holdfast %s parent", controller_name(controller));
    log_open(name, least_level());
    check_on_failure(on_failed_check);
    signal(SIGPIPE, SIG_IGN);
    raise_descriptor_limit();
    if (!pin(config->controllers[controller].cpu))
        log_say(LOG_WARNING, "there is no processor %d to run on; running on any",
                config->controllers[controller].cpu);
    struct job job = {.config = config, .controller = controller};
    const struct warden_job warden = {
        .config = config, .controller = controller, .run = run_child, .context = &job};
    return warden_run(&warden);
}
