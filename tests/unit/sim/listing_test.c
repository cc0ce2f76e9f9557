/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Listings: written into a file and read back they play the same run; what is no listing is
 * refused with the line's number; and, in a build with planted mistakes, a failing run becomes
 * small and still fails, and passes when the mistake is not made. */

#include "sim/listing.h"

#include "base/mistake.h"
#include "sim/shrink.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* Writes the text, or the listing when it is given, into a file and reads it back. */
static const char *through_a_file(const char *text, const struct listing *listing,
                                  struct listing *back)
{
    char path[] = "/tmp/holdfast-listing-XXXXXX";
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    FILE *file = fdopen(descriptor, "w");
    assert_non_null(file);
    if (listing)
        listing_print(listing, file);
    else
        fputs(text, file);
    fclose(file);
    const char *wrong = listing_read(back, path);
    unlink(path);
    return wrong;
}

/* How it plays, in the counts that differ as soon as anything does. */
static struct statistics play(const struct listing *listing)
{
    struct world_options options = {.steps = 200};
    struct statistics count;
    assert_null(shrink_replay(listing, &options, &count));
    return count;
}

static void a_listing_read_back_is_the_same_run(void **state)
{
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct listing listing = {.seed = 0}, back;
        struct world_options options = {.seed = seed, .steps = 200, .record = &listing};
        struct world *world = world_create(&options);
        assert_null(world_run(world));
        world_destroy(world);
        assert_null(through_a_file(NULL, &listing, &back));
        assert_int_equal(back.line_count, listing.line_count);
        struct statistics first = play(&listing), second = play(&back);
        assert_memory_equal(&first, &second, sizeof first);
        listing_free(&listing);
        listing_free(&back);
    }
}

static void what_is_no_listing_is_refused(void **state)
{
    static const char *const rows[] = {
        "at\n",
        "at 5\n",
        "at 5 fault earthquake who 0\n",
        "at 5 fault crash who 2\n",
        "at 5 hold c\n",
        "at 5 host 0 slot 0 shout volume 0 offset 0 length 512 flags 0 to a\n",
        "at 5 host 0 slot 0 write volume 256 offset 0 length 512 flags 0 to a\n",
        "at 5 host 0 slot 0 write volume 0 offset 0 length 512 flags 0 to c\n",
        "at 5 host 0 slot 0 write volume 0 offset 0 length 99999999999999999 flags 0 to a\n",
        "set slots\n",
        "nonsense\n",
    };
    for (size_t i = 0; i < ARRAY_LENGTH(rows); i++) {
        struct listing back;
        const char *wrong = through_a_file(rows[i], NULL, &back);
        assert_non_null(wrong);
        assert_non_null(strstr(wrong, "line 1 "));
        listing_free(&back);
    }
    struct listing back;
    assert_non_null(through_a_file("# nothing\n", NULL, &back));
    listing_free(&back);
    assert_non_null(listing_read(&back, "/nonexistent/listing"));
}

static void a_failing_run_becomes_small(void **state)
{
    static const enum mistake mistakes[] = {MISTAKE_half_a_batch, MISTAKE_ack_before_store,
                                            MISTAKE_takeover_forgets_image,
                                            MISTAKE_rejoin_without_refill};
    if (!mistake_make(mistakes[0]))
        skip();
    for (size_t i = 0; i < ARRAY_LENGTH(mistakes); i++) {
        struct listing listing = {.seed = 0};
        struct shrink_result result = {.runs = 0};
        bool shrunk = false;
        mistake_make(mistakes[i]);
        for (uint64_t seed = 1; seed <= 60 && !shrunk; seed++) {
            struct world_options options = {.seed = seed, .steps = 400};
            listing_free(&listing);
            shrunk = shrink_seed(&options, 20, &listing, &result) && result.before >= 40;
        }
        assert_true(shrunk);
        assert_true(result.after * 4 <= result.before);
        struct world_options options = {.steps = 400};
        assert_non_null(shrink_replay(&listing, &options, NULL));
        mistake_make(MISTAKE_NONE);
        const char *wrong = shrink_replay(&listing, &options, NULL);
        if (wrong)
            fail_msg("it fails without the mistake, too: %s", wrong);
        listing_free(&listing);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_listing_read_back_is_the_same_run),
        cmocka_unit_test(what_is_no_listing_is_refused),
        cmocka_unit_test(a_failing_run_becomes_small),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
