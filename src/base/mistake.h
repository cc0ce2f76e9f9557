/* SPDX-License-Identifier: Apache-2.0
 * SPDX-FileCopyrightText: The Holdfast authors */

/* Planted mistakes: the measure of the simulator. Each is one wrong condition at the very place
 * where the rule is kept. In a build with -Dmistakes=true one of them is chosen at run time and the
 * simulator has to find it; in every other build MISTAKE() is the constant false and the compiler
 * leaves nothing of it (tools/check-core looks). This header has the only #ifdef of it.
 *
 * A new one: a row here, MISTAKE(name) beside the condition that keeps the rule, `make mutation`.
 */

#ifndef BASE_MISTAKE_H
#define BASE_MISTAKE_H

#include <stdbool.h>

/* Name, and what is done wrong. */
#define MISTAKE_LIST(X)                                                                            \
    /* hosts */                                                                                    \
    X(ack_before_mirror, "a write is acknowledged before the peer has it")                         \
    X(ack_before_store, "serving alone, a write is acknowledged before the store has it")          \
    X(ack_from_void_batch, "serving alone, what was to be mirrored is acknowledged all the same")  \
    X(read_before_mirror, "a read returns what the peer does not have yet")                        \
    X(zeroes_acked_early, "a long WRITE ZEROES waits only for its ends")                           \
    X(flush_does_nothing, "FLUSH of a volume with flush=destage does not wait for the stores")     \
    X(fua_ignored, "FUA of a volume with flush=destage does not wait for the stores")              \
    X(serve_before_drop, "hosts are served before stale memory has been forgotten")                \
    /* slots and the stream */                                                                     \
    X(drop_not_sent, "a mirrored slot takes another page for a read without a DROP")               \
    X(fresh_not_said, "a slot takes another page for a write and its header does not say so")      \
    X(dirty_again_not_sent, "a second write of a dirty page is not sent to the peer")              \
    X(write_in_transit, "a slot on its way to the peer is overwritten")                            \
    X(write_in_destage, "a slot on its way to the store is overwritten")                           \
    X(void_batch_forgotten, "a batch voided on its way no longer keeps the link busy")             \
    X(resend_with_new_number, "a batch that is sent again has a new number")                       \
    X(range_not_sent, "a discarded range is not told to the peer")                                 \
    X(range_while_busy, "a range is discarded while the store is being written there")             \
    X(pin_forgotten, "a page that a range is about to discard is destaged meanwhile")              \
    /* the image */                                                                                \
    X(half_a_batch, "only the first half of a batch is applied")                                   \
    X(old_epoch_accepted, "a batch of an epoch that is over is applied")                           \
    X(resend_not_known, "a batch that comes again is refused")                                     \
    X(checksum_not_compared, "a WRITE whose data changed on the way is applied")                   \
    /* the stores */                                                                               \
    X(destage_before_mirrored, "a page goes to the store while it travels to the peer")            \
    X(pass_the_elder, "a newer version goes to the store beside the older one")                    \
    X(clean_before_flush, "a page is clean once written, without a flush")                         \
    X(flush_error_for_runs_only, "a failed flush puts only the runs that it covered in doubt")     \
    X(flush_covers_latecomers, "a flush under way is taken to cover what ended after it began")    \
    X(barrier_missing, "after a takeover pages are read before the store was flushed")             \
    X(barrier_error_ignored, "a takeover's flush that failed is not done again")                   \
    X(range_not_flushed, "a discarded range is forgotten before the store was flushed")            \
    X(write_after_lease, "a store write may leave after the lease")                                \
    X(adopted_not_counted, "adopted pages do not count as dirty for the register's clean mark")    \
    /* requests of the other controller */                                                         \
    X(shipped_begins_anew,                                                                         \
      "a shipped request whose owner was lost is carried out from its beginning")                  \
    X(resumed_too_early,                                                                           \
      "a shipped request goes on before the owner's stream has named the new session")             \
    X(shipped_twice, "a new shipping session begins a request anew that the old one had begun")    \
    X(compare_in_pieces, "COMPARE AND WRITE does not look again after it waited for room")         \
    X(state_not_mirrored, "a state record is changed without the peer")                            \
    X(state_not_refilled, "a returned peer is paired again without the state records")             \
    /* roles */                                                                                    \
    X(no_lease_wait, "a takeover does not wait for the peer's lease")                              \
    X(lease_from_answer, "the lease is counted from the answer, not from the question")            \
    X(lease_forever, "hosts are served after the lease")                                           \
    X(register_unknown_is_won, "a swap without an answer is taken for won")                        \
    X(stale_proof, "a proof about any start of the peer ousts one that serves alone")              \
    X(takeover_forgets_image, "a takeover does not adopt the image")                               \
    X(rejoin_without_refill, "the peer is paired again without the dirty pages")                   \
    X(refill_skips_destaging, "a page on its way to the store is left out of the refill")          \
    X(move_without_drain, "a volume moves with dirty pages")                                       \
    X(stop_without_destage, "a clean stop does not wait for the stores")                           \
    X(joiner_taken_for_empty, "a waiting controller that may be in by now is taken for empty")     \
    X(join_in_any_epoch, "a joiner takes any register with both in it for its own pairing")

/* Those of the remote copy: tests/unit/core/copy_test.c and copy_faults_test.c find them, and the
 * simulator most of them. */
#define COPY_MISTAKE_LIST(X)                                                                       \
    X(frozen_written, "a page of a closed cycle is overwritten before the second array has it")    \
    X(owed_not_sent, "a FRESH header leaves out what an unconfirmed cycle owes")                   \
    X(tag_not_sent, "a WRITE does not say its cycle")                                              \
    X(pinned_given_up, "a page that the second array does not have may be given up")               \
    X(refill_skips_pinned, "a returned peer does not get the clean pages of unconfirmed cycles")   \
    X(fall_forgets, "falling to the bitmap does not mark the pages of unconfirmed cycles")         \
    X(copy_serves_hosts,                                                                           \
      "hosts are served where a copy is received, or after a failover elsewhere")                  \
    X(loss_copied, "what an accepted loss left is copied over the second array's copy")            \
    X(failover_without_record, "hosts are served after a failover before its record is durable")   \
    X(peer_record_not_awaited, "a failover does not wait for the other controller's record")       \
    X(old_era_accepted, "a batch of an era that is over is taken")                                 \
    X(newer_era_ignored, "a primary that was failed over goes on")                                 \
    X(old_record_believed, "a record counts though the other controller served alone since")       \
    X(older_stop_is_the_last, "the bitmap of an older stop counts as the last one's")              \
    X(lacking_copies, "cycles run before the controller that stopped last said what differs")      \
    X(marks_of_any_era, "what an older era's primary had of its own is taken")                     \
    X(reverse_forgets_old_bitmap, "after a failover what the old primary had is not overwritten")  \
    X(copy_loss_not_seen, "a second array that lost what it had promoted is taken for whole")      \
    X(mark_not_said, "the leader cuts and does not tell")                                          \
    X(zeroing_not_said, "a range is discarded on the store before the peer knows of it")           \
    /* the receiving side: tests/unit/core/second_test.c and second_faults_test.c find them */     \
    X(hold_not_said, "a held page is not sent to the peer")                                        \
    X(refill_skips_held, "a returned peer does not get the pages that are held")                   \
    X(held_by_one, "a batch is answered well when one memory has it")                              \
    X(promote_while_busy, "a range counts while the store still takes or gives its old pages")     \
    X(promote_passes_elder, "a promoted page does not wait for its older slot at the store")       \
    X(promoted_before_zeroed, "a promoted page goes to the store before its range was zeroed")     \
    X(promoted_not_zeroed, "the ranges of a promoted cycle are not zeroed on the store")           \
    X(promoted_before_durable, "serving alone, a promotion is answered before it is durable")      \
    X(promotion_not_applied, "the peer does not promote")                                          \
    X(read_before_zeroed, "a promoted range is read before the store shows zeros")                 \
    /* sets of groups: tests/unit/core/copy_set_test.c finds them */                               \
    X(set_released_early, "completions are released before every member has closed its cycle")     \
    X(set_promoted_early, "a cut is promoted before every second array holds it")                  \
    X(set_not_resolved, "a run begins without the cut that some second array has promoted")        \
    X(set_late_unnoticed, "completions that went too early do not make the cut fail")              \
    X(set_hold_forgotten, "completions are not held for a cut")                                    \
    X(set_hold_endless, "completions are held until the coordinator says so, however long")        \
    X(set_promotes_unsealed, "a member reports before its second array stands still")

/* Those of src/copy/ alone: tests/unit/copy/model_test.c finds them. */
#define GROUP_MISTAKE_LIST(X)                                                                      \
    /* senders */                                                                                  \
    X(copy_writes_frozen, "a slot of a closed cycle is written in place")                          \
    X(copy_heir_owes_less, "an heir does not owe what its elder owed")                             \
    X(copy_one_half_promotes, "the leader promotes without the other half")                        \
    X(copy_end_before_reads, "END does not wait for the marked pages that are being read")         \
    X(copy_open_reads_done, "a cycle counts as consistent while marked pages are being read")      \
    X(copy_move_vouched, "a cycle counts as consistent while a volume was on its way")             \
    X(copy_takeover_drops_tags, "a takeover forgets what the lost half had not sent")              \
    X(copy_takeover_drops_ranges, "a takeover forgets the ranges of unconfirmed cycles")           \
    X(copy_superseded_forgotten, "a takeover forgets superseded slots that nothing covers")        \
    X(copy_bits_cleared_early, "a region is clear once sent, not once confirmed")                  \
    X(copy_ranges_fall_unmarked, "falling to the bitmap does not mark ranges")                     \
    X(copy_old_writes_unmarked, "what the peer wrote while fallen is not marked")                  \
    X(copy_complete_without_answers, "a half is complete once everything was sent")                \
    X(copy_joiner_sends_end, "a returned half sends END for cycles it had no part in")             \
    /* receivers */                                                                                \
    X(copy_batch_known_early, "a batch that is still being applied is answered")                   \
    X(copy_batch_twice, "a batch that was applied is applied again")                               \
    X(copy_term_keeps_held, "a new term does not discard what was held")                           \
    X(copy_term_passes_promotion, "a new term does not wait for a promotion under way")            \
    X(copy_generation_ignored, "the version of a page that came last counts, not the newest")      \
    X(copy_ranges_last, "a range zeroes pages that were written after it")

enum mistake {
    MISTAKE_NONE,
#define MISTAKE_ENUM(name, text) MISTAKE_##name,
    MISTAKE_LIST(MISTAKE_ENUM) COPY_MISTAKE_LIST(MISTAKE_ENUM) GROUP_MISTAKE_LIST(MISTAKE_ENUM)
#undef MISTAKE_ENUM
        MISTAKE_COUNT
};

#ifdef HOLDFAST_MISTAKES
extern enum mistake mistake_made;
#define MISTAKE(name) (mistake_made == MISTAKE_##name)
static inline bool mistake_make(enum mistake mistake)
{
    mistake_made = mistake;
    return true;
}
#else
#define MISTAKE(name) ((void)MISTAKE_##name, false)
/* False: this build makes none. */
static inline bool mistake_make(enum mistake mistake)
{
    return mistake == MISTAKE_NONE;
}
#endif

#endif
