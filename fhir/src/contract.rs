//! What every engine of [`ResourceStore`] must do.
//!
//! A case is a private function: one left out of [`CASES`] is dead code, and dead code fails the build.
mod adversary;
mod auditing;
mod clients;
mod costing;
mod extents;
mod finding;
pub mod fixture;
mod long;
mod observing;
mod owning;
mod paging;
mod reindexing;
pub mod searching;
mod telling;
mod withdrawing;
mod writing;

use crate::store::ResourceStore;
use crate::subscription::MAX_PENDING_EVENTS;
pub use adversary::Redelivering;
use async_trait::async_trait;
pub use costing::Asked;
use std::{future::Future, pin::Pin, sync::Arc};

/// One database, empty at first.
#[async_trait]
pub trait Engine: Send + Sync {
    /// Opens it. Every call is a store of its own over the same database.
    async fn open(&self) -> Arc<dyn ResourceStore> {
        self.open_bounded(MAX_PENDING_EVENTS).await
    }

    /// The same with another bound of events that wait.
    async fn open_bounded(&self, most_pending: u64) -> Arc<dyn ResourceStore>;

    /// What it does for one page.
    async fn cost(&self, asked: &Asked) -> u64;

    /// What it may do for one row of a page, of the same unit: blocks that are read, or instructions.
    fn most_of_a_row(&self) -> u64;

    /// Whether a page of a search by a parameter costs what it shows. Otherwise it costs what the search finds.
    fn searches_by_the_page(&self) -> bool;

    /// Until its planner knows the tables as they are, if it looks at them.
    async fn settled(&self);

    /// Does statements of the engine's own to the database.
    async fn run(&self, sql: &str);

    /// The whole number that a query of the engine's own finds.
    async fn number(&self, sql: &str) -> i64;
}

/// One promise.
pub struct Case {
    /// The promise, as a sentence in snake case.
    pub name: &'static str,
    /// Checks it on an empty database; panics when it is broken.
    pub run: for<'a> fn(&'a dyn Engine) -> Check<'a>,
}

/// A case under way.
pub type Check<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

macro_rules! cases {
    ($($module:ident::$case:ident),* $(,)?) => {
        &[$(Case { name: stringify!($case), run: |engine| Box::pin($module::$case(engine)) }),*]
    };
}

/// The promises of a [`ResourceStore`].
pub const CASES: &[Case] = cases![
    writing::what_is_applied_is_read_back_byte_for_byte,
    writing::what_is_not_there_is_none,
    writing::nothing_delivered_is_nothing_applied,
    writing::the_same_parcel_twice_is_one,
    writing::the_same_reading_in_another_parcel_is_one,
    writing::another_content_of_a_reading_is_a_conflict_and_the_rest_is_applied,
    writing::another_content_of_a_patient_is_a_new_version_and_the_old_one_stays,
    writing::a_parcel_that_comes_again_does_not_bring_an_old_patient_back,
    writing::versions_within_one_call_follow_each_other,
    writing::the_largest_batch_is_applied_and_one_more_is_refused,
    writing::two_writers_at_once_lose_and_double_nothing,
    writing::a_store_that_is_opened_again_holds_everything,
    writing::a_call_that_is_dropped_is_applied_wholly_or_not_at_all,
    writing::ids_of_every_shape_are_kept_apart,
    writing::last_updated_never_goes_back,
    owning::what_another_source_owns_is_not_written_and_nothing_of_that_delivery_is,
    owning::a_reading_of_a_patient_or_device_of_another_source_is_refused,
    owning::within_one_call_the_first_source_owns_and_the_others_are_applied,
    owning::what_a_client_wrote_no_facility_takes_over_also_when_it_was_deleted,
    owning::a_source_keeps_the_pseudonym_that_it_was_offered_first,
    writing::commits_are_numbered_in_their_order_and_stay_so,
    writing::what_was_kept_last_for_a_reader_is_found_again,
    withdrawing::a_withdrawn_reading_is_a_new_version_and_the_last,
    withdrawing::a_withdrawal_that_overtakes_its_reading_holds,
    paging::every_order_shows_each_resource_once,
    paging::equal_times_are_in_the_order_of_ids_that_was_asked_for,
    paging::a_page_of_one_and_a_page_of_everything_show_the_same,
    paging::every_filter_finds_what_it_says,
    paging::paging_is_stable_while_others_write,
    paging::commits_are_listed_in_their_order,
    clients::what_a_client_writes_is_read_back_and_every_version_stays,
    clients::a_transaction_is_done_as_a_whole_or_not_at_all,
    clients::whoever_looks_is_told_the_last_commit_at_that_moment,
    clients::of_many_who_look_at_once_each_gets_its_own,
    clients::of_many_at_once_each_is_done_as_if_alone_and_one_that_cannot_be_costs_no_other,
    clients::of_clients_that_expect_the_same_one_has_its_way,
    clients::what_a_facility_delivered_is_no_clients_to_change,
    clients::the_history_says_what_was_created_by_post,
    clients::the_history_shows_every_version_once_in_either_order,
    clients::a_history_shows_what_was_there_at_a_moment,
    auditing::the_servers_own_events_are_stored_once_found_by_every_parameter_and_no_clients_to_change,
    auditing::what_is_dropped_leaves_nothing_and_what_a_client_wrote_stays,
    observing::what_clients_observe_is_listed_among_readings_in_every_order,
    observing::each_is_found_by_its_own_conditions,
    observing::what_clients_observe_is_counted_and_listed_with_their_patients,
    extents::what_was_there_at_a_commit_is_listed_once_whatever_is_written_meanwhile,
    extents::readings_of_some_patients_are_listed_whatever_was_withdrawn_since,
    extents::the_numbers_of_readings_are_those_of_their_texts,
    finding::every_search_finds_what_was_found_by_hand,
    finding::pages_of_every_order_show_each_resource_once,
    finding::what_was_changed_or_deleted_is_found_by_what_it_is_now,
    finding::of_many_that_create_by_one_condition_one_creates_and_all_find_it,
    finding::a_write_is_done_only_where_a_search_finds_what_is_expected,
    finding::readings_are_looked_at_by_their_columns_from_what_they_refer_to,
    costing::a_search_by_a_code_costs_what_it_finds_in_tables_that_nobody_looked_at,
    costing::a_page_costs_what_it_shows,
    costing::a_page_of_readings_costs_what_it_shows,
    costing::a_page_of_a_search_costs_the_same_wherever_it_is,
    long::a_page_ends_by_its_bytes_and_the_next_one_goes_on_behind_it,
    long::what_is_long_makes_a_new_version_by_another_content_alone,
    long::of_many_who_look_at_once_each_gets_its_own_however_long_it_is,
    telling::every_change_that_is_watched_has_its_event_and_what_was_not_done_has_none,
    telling::readings_that_are_delivered_have_their_events_and_foreign_deliveries_none,
    telling::what_clients_observe_has_its_events,
    telling::what_was_taken_stays_so_and_a_deleted_subscription_leaves_nothing,
    telling::where_more_events_wait_than_may_a_subscription_is_watched_no_longer,
    telling::there_are_so_many_subscriptions_and_one_more_is_not_taken,
    reindexing::what_is_new_is_refused_until_it_is_indexed_and_nothing_of_it_is_lost_or_doubled,
    reindexing::what_has_changed_is_answered_while_it_is_indexed_anew,
];
