/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Any bytes as a request to the control socket: a request within its bounds, or a sentence that can
 * be sent back. */

#include "shell/control.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct control_request request;
    char why[TRACE_LINE] = "";
    if (control_parse_request((const char *)data, size, &request, why)) {
        CHECK(request.command <= CONTROL_GROUP);
        CHECK(request.action <= GROUP_RESYNC);
        CHECK_IMPLIES(request.force,
                      request.action != GROUP_SUSPEND && request.action != GROUP_REVERSE);
        CHECK_IMPLIES(request.command == CONTROL_GROUP, request.group[0] != '\0');
        CHECK(request.to <= 1);
        CHECK_IMPLIES(request.command == CONTROL_MOVE, request.volume[0] != '\0');
    } else {
        CHECK(why[0] != '\0');
    }
    char *reply = control_format_reply(false, why);
    CHECK(reply);
    CHECK(strchr(reply, '\n') == reply + strlen(reply) - 1);
    free(reply);
    return 0;
}
