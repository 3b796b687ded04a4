//! Counters, breakers, desired states and notices over DynamoDB.
//!
//! **Rates.** A fold becomes one transaction: the mark of its shard moves, on the condition that it is the one that the fold
//! was made for, and one `ADD` for each row. If the mark is another one, the transaction is cancelled and returns it. A row
//! is read back by adding up its lanes.
//!
//! **Breakers.** Each has a version, and is written on the condition of the version that it was read under, in one transaction with its
//! copy on the board, the desired state that follows, and its notice. So a desired state or a notice without its
//! breaker, or a breaker without its desired state, never exists.
//!
//! **Pauses.** Each place in the budget of pauses is an item. A pause takes it in the transaction of its breaker, on the
//! condition that the place is free, its own, or an hour old: of two copies that take the same place one decides anew.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, Delete, Put, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure,
    TransactWriteItem, Update,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use pipeline::digest::MailHistory;
use pipeline::fold::Limits;
use pipeline::notice::{AlertQueue, Notice, Outbox};
use pipeline::ports::{
    Board, Change, Committed, DesiredState, DesiredStates, Disposition, MAX_SHARING, PlaceChange, PortError, Relative,
    Reputation, Saved, Schedule, SubjectState, Sweep, SweepProgress, Versioned, may_share_mail_with,
};
use pipeline::stream::{Counter, Fold, Increment, Row, Sequence, Shard};
use reputation::budget::{Harm, Pause};
use reputation::isp::{Isp, IspMap};
use reputation::policy::Policy;
use reputation::subject::Subject;
use reputation::time::{HOUR, MINUTE_MILLIS, Minute, Now};
use reputation::timeline::{KEEP_HOURS, Length, Timeline, edge, judged_from};
use reputation::unit::UnitKind;

use crate::backoff::Backoff;
use crate::clients::port_error;
use crate::layout::{
    DIRECTORY_DAYS, Item, MARK_DAYS, Malformed, Reader, StackParameters, board_sk, breaker_attributes, breaker_sk,
    buckets_attribute, causes, causes_names, counters, expiry, export_keys, flow_name, keys, mark_keys,
    noted_attributes, notice_item, number, parameters_item, parameters_keys, parse_board_sk, parse_breaker,
    parse_desired_state, parse_mark, parse_notice, parse_parameters, parse_pause, parse_place_sk, parse_progress,
    parse_rate_sk, pause_item, place_keys, progress_keys, rate_expiry, rate_sk, text,
};
use crate::ledger::bug;

/// Actions that DynamoDB takes in one transaction.
const MAX_ACTIONS: usize = 100;
/// Begins the sort keys that name an ISP from which a complaint has come.
const HEARD: &str = "heard#";
/// Reads at a time.
const READS: usize = 8;
/// Lanes that are taken at most because of conflicts. Each makes reading a subject more expensive.
const MAX_LANES: u32 = 16;
/// The lane beside all others, for a fold of which some row holds something else than a counter, to which nothing can be added.
const SPARE_LANE: u32 = MAX_LANES;

/// Where it is kept who shares mail with a subject.
const SHARES_MAIL: &str = "kin";

/// Who shares mail with a subject. What names no subject was written by hand, and is passed over.
fn sharing_of(item: &Item) -> BTreeSet<Subject> {
    let names = item.get("subjects").and_then(|names| names.as_ss().ok());
    names.into_iter().flatten().filter_map(|name| name.parse().ok()).take(MAX_SHARING).collect()
}

/// What one commit can hold: a mark and 99 rows. An update expression takes 4 KB; a counter takes up to 12 bytes of it.
pub const LIMITS: Limits = Limits { rows: MAX_ACTIONS - 1, counters: 250 };

/// The reputation table.
#[derive(Debug)]
pub struct DynamoReputation {
    client: Client,
    table: String,
    isps: IspMap,
    protected: Vec<Subject>,
    /// As the policy says.
    lanes: u32,
    /// As conflicts have shown to be needed, in this process.
    lanes_needed: u32,
    /// Transactions that met another one at the same item, so far.
    conflicts: u64,
    subject_state: SubjectState,
    account: Vec<Timeline>,
    /// Who has mail since a minute, as it was read in this invocation.
    active: Option<(Minute, Vec<(Subject, Timeline)>)>,
    /// The last hour in which this process has noted each subject in the directory.
    noted: HashMap<Subject, Minute>,
    /// Subjects that this process has noted to share mail with a protected one.
    shares_mail_with: HashSet<(Subject, Subject)>,
    /// The last day on which this process has noted that the first subject shares mail with the second.
    related: HashMap<(Subject, Subject), Minute>,
    heard: HashSet<(Subject, Isp)>,
    /// The marks of shards as this process last saw them: they only grow, so that an old one is a lower bound.
    marks: HashMap<Shard, Sequence>,
    /// What is going on, as of the beginning of this invocation.
    board: Look,
    /// What is wrong with items that could not be read since this was last asked.
    unreadable: Mutex<BTreeSet<String>>,
    /// Write units used so far.
    pub write_units: f64,
}

impl DynamoReputation {
    /// The counters and breakers in this table, under this policy.
    pub fn new(client: Client, table: impl Into<String>, policy: &Policy) -> DynamoReputation {
        DynamoReputation {
            client,
            table: table.into(),
            isps: policy.isp_map.clone(),
            protected: policy.subjects.protected.clone(),
            lanes: policy.lanes,
            lanes_needed: 1,
            conflicts: 0,
            subject_state: SubjectState::default(),
            account: Vec::new(),
            active: None,
            noted: HashMap::new(),
            shares_mail_with: HashSet::new(),
            related: HashMap::new(),
            heard: HashSet::new(),
            marks: HashMap::new(),
            board: Look::Always,
            unreadable: Mutex::default(),
            write_units: 0.0,
        }
    }

    /// Takes another policy into use.
    pub fn set_policy(&mut self, policy: &Policy) {
        self.isps = policy.isp_map.clone();
        self.protected.clone_from(&policy.subjects.protected);
        self.lanes = policy.lanes;
    }

    /// Begins an invocation: from now on the board, and who has mail, is read once, when it is first needed, and the board is
    /// then known by what this process saves, until this is called again.
    pub fn look_anew(&mut self) {
        self.board = Look::Once(None, Vec::new());
        self.active = None;
    }

    /// What was wrong with items that could not be read since this was last asked: they were passed over, and stay as they
    /// are.
    pub fn take_unreadable(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.unreadable.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What an item holds. One that cannot be read (a release that went back finds what a newer one wrote, or somebody has
    /// edited it) must not stop everything.
    fn readable<T>(&self, read: Result<T, Malformed>) -> Option<T> {
        read.inspect_err(|error| {
            let mut known = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
            if known.insert(error.to_string()) {
                tracing::error!(%error, "an item cannot be read and stays as it is");
            }
        })
        .ok()
    }

    /// The lanes that folds are spread over.
    pub fn lanes(&self) -> u32 {
        self.lanes.max(self.lanes_needed)
    }

    /// Transactions that met another one at the same item, so far. They are tried again.
    pub fn conflicts(&self) -> u64 {
        self.conflicts
    }

    /// The ISPs that counters are named after.
    pub fn isps(&self) -> &IspMap {
        &self.isps
    }

    /// All rows of one length of a subject that begin in `[from, until)`, to be shown.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    pub async fn rates(
        &self,
        subject: &Subject,
        length: Length,
        from: Minute,
        until: Minute,
    ) -> Result<Timeline, PortError> {
        let name = subject.to_string();
        let between = ("BETWEEN :a AND :b", text(HEARD), Some(text(format!("{HEARD}~"))));
        let (heard, rows) =
            tokio::try_join!(self.query(&name, Some(between)), self.range(subject, length, from, until))?;
        let mut timeline = Timeline::default();
        self.load(&mut timeline, &rows);
        for item in &heard {
            self.hear(&mut timeline, Reader(item).text("sk")?);
        }
        Ok(timeline)
    }

    /// Notes in a timeline what the item of this sort key says: that a complaint has come from an ISP.
    fn hear(&self, timeline: &mut Timeline, sk: &str) {
        let isp = sk.strip_prefix(HEARD).and_then(|name| self.isps.by_name(name));
        // A loop may have become known since.
        if let Some(isp) = isp.filter(|isp| !self.isps.returns_complaints(*isp)) {
            timeline.hear(isp);
        }
    }

    /// Every subject that was ever heard of, with the last hour (its first minute) in which it was.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    pub async fn directory(&self) -> Result<BTreeMap<Subject, Minute>, PortError> {
        let items = self.query("directory", None).await?;
        let entry = |item: &Item| -> Result<(Subject, Minute), Malformed> {
            let read = Reader(item);
            Ok((subject_of(read.text("sk")?, item)?, Minute(read.number("hour")?)))
        };
        Ok(items.iter().filter_map(|item| self.readable(entry(item))).collect())
    }

    /// The last notices, the newest first, with when what they tell of was.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    pub async fn notices(&self, most: i32) -> Result<Vec<(Notice, Now)>, PortError> {
        let operation = "reading notices";
        let query = self.client.query().table_name(&self.table).key_condition_expression("pk = :pk");
        let query = query.expression_attribute_values(":pk", text("notices")).scan_index_forward(false).limit(most);
        let answer = query.send().await.map_err(|error| port_error(operation, &error))?;
        let dated = |item: &Item| -> Result<(Notice, Now), Malformed> {
            let notice = parse_notice(item)?;
            let at = notice.id.split('#').next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
            Ok((notice, Now(at)))
        };
        Ok(answer.items().iter().filter_map(|item| self.readable(dated(item))).collect())
    }

    /// The notice of a breaker's move; `name` is the breaker's, as in [`pipeline::wording::key_name`].
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    pub async fn notice_of(&self, name: &str, moved: Now) -> Result<Option<Notice>, PortError> {
        // See [`Notice::of`]: a notice is named by its time, the breaker and the breaker's version.
        let from = format!("{:013}#{name}#", moved.0.max(0));
        let between = ("BETWEEN :a AND :b", text(from.as_str()), Some(text(format!("{from}~"))));
        Ok(self.query("notices", Some(between)).await?.last().and_then(|item| self.readable(parse_notice(item))))
    }

    async fn query(
        &self,
        pk: &str,
        sk: Option<(&str, AttributeValue, Option<AttributeValue>)>,
    ) -> Result<Vec<Item>, PortError> {
        let operation = "querying the reputation table";
        let mut query = self.client.query().table_name(&self.table).consistent_read(true);
        query = query.expression_attribute_values(":pk", text(pk));
        let mut condition = "pk = :pk".to_owned();
        if let Some((comparison, from, until)) = sk {
            condition.push_str(" AND sk ");
            condition.push_str(comparison);
            query = query.expression_attribute_values(":a", from);
            if let Some(until) = until {
                query = query.expression_attribute_values(":b", until);
            }
        }
        let pages = query.key_condition_expression(condition).into_paginator().items().send();
        pages.collect::<Result<Vec<Item>, _>>().await.map_err(|error| port_error(operation, &error))
    }

    /// Rate rows of a subject that begin in `[from, until)`.
    async fn range(
        &self,
        subject: &Subject,
        length: Length,
        from: Minute,
        until: Minute,
    ) -> Result<Vec<Item>, PortError> {
        if from >= until {
            return Ok(Vec::new());
        }
        // A lane's mark sorts behind the first lane and before the next cohort.
        let last = format!("{}~", rate_sk(length, Minute(until.0 - 1)));
        let between = ("BETWEEN :a AND :b", text(rate_sk(length, from)), Some(text(last)));
        self.query(&subject.to_string(), Some(between)).await
    }

    fn load(&self, timeline: &mut Timeline, items: &[Item]) {
        for item in items {
            let cohort = item.get("sk").and_then(|sk| sk.as_s().ok()).and_then(|sk| parse_rate_sk(sk));
            let Some(cohort) = cohort else { continue };
            for (isp, kind, count) in counters(item, &self.isps) {
                timeline.load(cohort, isp, kind, count, self.isps.returns_complaints(isp));
            }
            for (isp, kind, causes) in causes(item, &self.isps) {
                timeline.load_causes(cohort, isp, kind, causes);
            }
        }
    }

    /// Notes who was heard of in this hour, who shares mail with a protected subject, and at which ISPs without a known
    /// feedback loop a complaint was counted. Before their units are added: once added they are never seen again.
    async fn note(&mut self, fold: &Fold<'_>, now: Now) -> Result<(), PortError> {
        let hour = now.minute().hour();
        let mut items: Vec<Item> = Vec::new();
        let mut noted = Vec::new();
        let mut shares_mail_with = HashSet::new();
        let mut heard = HashSet::new();
        let mut related: BTreeMap<Subject, BTreeSet<Subject>> = BTreeMap::new();
        let today = now.minute().day();
        let mut last = None;
        for record in fold.records() {
            let unit = &record.unit;
            if unit.kind == UnitKind::Complaint && !self.isps.returns_complaints(unit.isp) {
                for subject in fold.subjects(unit.sender) {
                    let pair = (subject.clone(), unit.isp);
                    if !self.heard.contains(&pair) && heard.insert(pair) {
                        items.push(keys(subject.to_string(), format!("{HEARD}{}", self.isps.name(unit.isp))));
                    }
                }
            }
            if last.replace(record.unit.sender) == Some(record.unit.sender) {
                continue;
            }
            let subjects = fold.subjects(record.unit.sender);
            for subject in subjects {
                if self.noted.get(subject).is_none_or(|known| *known < hour) && !noted.contains(subject) {
                    let mut item = keys("directory", subject.to_string());
                    item.insert("hour".to_owned(), number(hour.0));
                    item.insert("expires".to_owned(), expiry(now, DIRECTORY_DAYS));
                    items.push(item);
                    noted.push(subject.clone());
                }
                for other in subjects.iter().filter(|other| may_share_mail_with(subject, other)) {
                    let pair = (subject.clone(), other.clone());
                    if self.related.get(&pair).is_none_or(|known| *known < today) {
                        related.entry(pair.0).or_default().insert(pair.1);
                    }
                }
                for protected in subjects.iter().filter(|other| self.protected.contains(other)) {
                    let pair = (subject.clone(), protected.clone());
                    if !self.shares_mail_with.contains(&pair) && shares_mail_with.insert(pair) {
                        items.push(keys(subject.to_string(), format!("kin#{protected}")));
                    }
                }
            }
        }
        let puts = items.into_iter().map(|item| {
            let put = self.client.put_item().table_name(&self.table).set_item(Some(item));
            put.return_consumed_capacity(ReturnConsumedCapacity::Total).send()
        });
        let mut answers = stream::iter(puts).buffer_unordered(READS);
        let mut used = 0.0;
        while let Some(answer) = answers.next().await {
            let answer = answer.map_err(|error| port_error("noting whose mail it is", &error))?;
            used += answer.consumed_capacity().and_then(|used| used.capacity_units()).unwrap_or(0.0);
        }
        drop(answers);
        let this = &*self;
        let notes = related.into_iter().map(|(subject, others)| async move {
            let used = this.note_sharing(&subject, &others, now).await;
            (subject, others, used)
        });
        let notes: Vec<_> = stream::iter(notes).buffer_unordered(READS).collect().await;
        for (subject, others, noted) in notes {
            match noted {
                Ok(units) => {
                    used += units;
                    self.related.extend(others.into_iter().map(|other| ((subject.clone(), other), today)));
                }
                // It only orders messages: nothing waits for it.
                Err(error) => tracing::warn!(%subject, %error, "who shares mail is noted another time"),
            }
        }
        self.write_units += used;
        self.noted.extend(noted.into_iter().map(|subject| (subject, hour)));
        self.shares_mail_with.extend(shares_mail_with);
        self.heard.extend(heard);
        Ok(())
    }

    /// Notes others that share mail with a subject, as far as there is room. Returns the write units used.
    async fn note_sharing(&self, subject: &Subject, others: &BTreeSet<Subject>, now: Now) -> Result<f64, PortError> {
        let operation = "noting who shares mail";
        let names: Vec<String> = others.iter().take(MAX_SHARING).map(Subject::to_string).collect();
        let update = self.client.update_item().table_name(&self.table);
        let update = update
            .set_key(Some(keys(subject.to_string(), SHARES_MAIL)))
            .update_expression("ADD subjects :others SET expires = :expires")
            .condition_expression("attribute_not_exists(subjects) OR size(subjects) < :most")
            .expression_attribute_values(":others", AttributeValue::Ss(names))
            .expression_attribute_values(":expires", expiry(now, DIRECTORY_DAYS))
            .expression_attribute_values(":most", number(MAX_SHARING))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        match update.send().await {
            Ok(answer) => Ok(answer.consumed_capacity().and_then(|used| used.capacity_units()).unwrap_or(0.0)),
            // It has enough of them. A write that fails its condition is charged as one unit.
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                Ok(1.0)
            }
            Err(error) => Err(port_error(operation, &error)),
        }
    }

    /// Writes all of it or nothing. Conflicts with others are tried again; a condition that does not hold is returned.
    async fn transact(
        &mut self,
        operation: &'static str,
        actions: Vec<TransactWriteItem>,
    ) -> Result<Written, PortError> {
        let mut backoff = Backoff::default();
        let mut failed = PortError { operation, reason: "not tried".to_owned(), disposition: Disposition::Retry };
        while backoff.wait().await {
            let call = self.client.transact_write_items().set_transact_items(Some(actions.clone()));
            match call.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
                Ok(answer) => {
                    let used = answer.consumed_capacity().iter().filter_map(|used| used.capacity_units());
                    self.write_units += used.sum::<f64>();
                    return Ok(Written::All);
                }
                Err(error) => {
                    if let Some(reasons) = cancelled(&error) {
                        let failed_check =
                            |reason: &CancellationReason| reason.code() == Some("ConditionalCheckFailed");
                        if let Some(index) = reasons.iter().position(failed_check) {
                            return Ok(Written::Nothing { index, found: reasons[index].item().cloned() });
                        }
                        let busy = |code: &str| {
                            matches!(code, "TransactionConflict" | "ThrottlingError" | "ProvisionedThroughputExceeded")
                        };
                        let codes: Vec<&str> =
                            reasons.iter().filter_map(|reason| reason.code()).filter(|code| *code != "None").collect();
                        let reason = format!("the transaction was cancelled: {}", codes.join(", "));
                        if !codes.iter().any(|code| busy(code)) {
                            return Err(PortError { operation, reason, disposition: Disposition::Quarantine });
                        }
                        self.conflicts += u64::from(codes.contains(&"TransactionConflict"));
                        failed.reason = reason;
                        continue;
                    }
                    failed = port_error(operation, &error);
                    if failed.disposition != Disposition::Retry {
                        break;
                    }
                }
            }
        }
        Err(failed)
    }

    fn put(&self, item: Item) -> Result<TransactWriteItem, PortError> {
        let put = Put::builder().table_name(&self.table).set_item(Some(item)).build();
        let put = put.map_err(|error| bug("building a put", &error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    fn delete(&self, keys: Item) -> Result<TransactWriteItem, PortError> {
        let delete = Delete::builder().table_name(&self.table).set_key(Some(keys)).build();
        let delete = delete.map_err(|error| bug("building a delete", &error))?;
        Ok(TransactWriteItem::builder().delete(delete).build())
    }

    /// Moves the mark of a fold's shard to its last record.
    fn move_mark(&self, fold: &Fold<'_>, now: Now) -> Result<TransactWriteItem, PortError> {
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(mark_keys(fold.shard())))
            .update_expression("SET #last = :last, expires = :expires")
            .expression_attribute_names("#last", "last")
            .expression_attribute_values(":last", text(fold.last().to_string()))
            .expression_attribute_values(":expires", expiry(now, MARK_DAYS))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        let update = match fold.after() {
            None => update.condition_expression("attribute_not_exists(#last)"),
            Some(after) => update
                // A hand may have written it as a number.
                .condition_expression("#last IN (:after, :number)")
                .expression_attribute_values(":after", text(after.to_string()))
                .expression_attribute_values(":number", number(after)),
        };
        let update = update.build().map_err(|error| bug("building a mark", &error))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    /// Moves the mark of a fold's shard, and adds to the counters of its rows.
    async fn add(&mut self, fold: &Fold<'_>, lane: u32, now: Now) -> Result<Written, PortError> {
        let mut actions = vec![self.move_mark(fold, now)?];
        for (row, counters) in &fold.increments(now) {
            actions.push(self.increment(*row, counters, lane)?);
        }
        self.transact("adding a fold", actions).await
    }

    /// Writes a mark without leading zeros, if `found` is the same number with some: it was edited by hand, and no condition
    /// on its text would ever hold.
    async fn rewrite_mark(&self, shard: &Shard, found: &Item, mark: Sequence) -> Result<(), PortError> {
        let Some(last) = found.get("last") else { return Ok(()) };
        let update = self.client.update_item().table_name(&self.table).set_key(Some(mark_keys(shard)));
        let update = update.update_expression("SET #last = :mark").condition_expression("#last = :found");
        let update = update.expression_attribute_names("#last", "last");
        let update = update.expression_attribute_values(":found", last.clone());
        match update.expression_attribute_values(":mark", text(mark.to_string())).send().await {
            Ok(_) => Ok(()),
            // Another reader has moved it meanwhile.
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                Ok(())
            }
            Err(error) => Err(port_error("rewriting a mark", &error)),
        }
    }

    /// Adds to the counters of a row, in the lane of this fold.
    fn increment(
        &self,
        row: Row<'_>,
        counters: &BTreeMap<Counter, Increment>,
        lane: u32,
    ) -> Result<TransactWriteItem, PortError> {
        let mut sk = rate_sk(row.length, row.from);
        if lane > 0 {
            sk.push_str(&format!("#{lane}"));
        }
        let mut update = Update::builder().table_name(&self.table).set_key(Some(keys(row.subject.to_string(), sk)));
        let mut adds = Vec::with_capacity(counters.len());
        for ((isp, kind), Increment { count, causes }) in counters {
            let mut attributes = vec![(kind.counter_name(), number(count))];
            if causes.count > 0 {
                let [number_name, set_name] = causes_names(*kind);
                attributes.push((number_name, number(causes.count)));
                attributes.push((set_name, buckets_attribute(causes.buckets)));
            }
            for (name, value) in attributes {
                let index = adds.len();
                let attribute = format!("{}.{name}", self.isps.name(*isp));
                update = update.expression_attribute_names(format!("#{index}"), attribute);
                update = update.expression_attribute_values(format!(":{index}"), value);
                adds.push(format!("#{index} :{index}"));
            }
        }
        update = update.expression_attribute_values(":e", rate_expiry(row.length, row.from));
        let update = update.update_expression(format!("SET expires = :e ADD {}", adds.join(",")));
        let update = update.build().map_err(|error| bug("building an increment", &error))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    /// What saving one change takes; the breaker itself first. `afresh`: the desired state that is there has no version to add to.
    fn actions(&self, change: &Change, afresh: bool) -> Result<Vec<TransactWriteItem>, PortError> {
        let key = &change.key;
        let mut actions = Vec::new();
        let mut item = keys(key.subject.to_string(), breaker_sk(key.isp, &self.isps));
        item.extend(breaker_attributes(&change.next));
        item.insert("version".to_owned(), number(change.version + 1));
        let put = Put::builder().table_name(&self.table).set_item(Some(item));
        let put = if change.version == 0 {
            put.condition_expression("attribute_not_exists(pk)")
        } else {
            put.condition_expression("version = :v").expression_attribute_values(":v", number(change.version))
        };
        let put = put.build().map_err(|error| bug("building a breaker", &error))?;
        actions.push(TransactWriteItem::builder().put(put).build());

        let copy = keys("board", board_sk(key, &self.isps));
        let of_isp_itself = key.subject == Subject::Account && key.isp.is_some();
        if change.next.is_settled() && !of_isp_itself {
            actions.push(self.delete(copy)?);
        } else {
            let mut item = copy;
            item.extend(breaker_attributes(&change.next));
            actions.push(self.put(item)?);
        }
        if let Some(places) = &change.places {
            actions.extend(self.places(&key.subject, places)?);
        }
        let urgency = change
            .transition
            .as_ref()
            .and_then(|transition| transition.verdict)
            .map_or(1.0, |verdict| verdict.excess());
        for control in &change.controls {
            let Some(flow) = control.kind.at_ses() else { continue };
            let set = "SET wish = :wish, #at = :at, urgency = :urgency, reason = :reason, pending = :true";
            // Beyond any version that it can have had.
            let (version, more) = if afresh { (", version = :more", control.at.0) } else { (" ADD version :more", 1) };
            let update = Update::builder()
                .table_name(&self.table)
                .set_key(Some(keys("control", control.target.to_string())))
                .update_expression(format!("{set}{version}"))
                .expression_attribute_names("#at", "at")
                .expression_attribute_values(":wish", text(flow_name(flow)))
                .expression_attribute_values(":at", number(control.at.0))
                .expression_attribute_values(":urgency", number(urgency))
                .expression_attribute_values(":reason", text(control.reason.as_str()))
                .expression_attribute_values(":true", AttributeValue::Bool(true))
                .expression_attribute_values(":more", number(more));
            let update = update.build().map_err(|error| bug("building a desired state", &error))?;
            actions.push(TransactWriteItem::builder().update(update).build());
        }
        if let (Some(notice), Some(transition)) = (Notice::of(change, &self.isps), &change.transition) {
            for pk in ["notices", "outbox"] {
                actions.push(self.put(notice_item(pk, &notice, transition.at))?);
            }
        }
        Ok(actions)
    }
}

impl DynamoReputation {
    /// What changing the places of a configuration set in the budget of pauses takes. The conditions are those of
    /// [`PlaceChange::fits`].
    fn places(&self, set: &Subject, places: &PlaceChange) -> Result<Vec<TransactWriteItem>, PortError> {
        let mut actions = Vec::new();
        let own_or_free = "attribute_not_exists(pk) OR #subject = :subject";
        if let Some((place, pause)) = &places.taken {
            let hour_ago = pause.at.0 - i64::from(HOUR) * MINUTE_MILLIS;
            let put = Put::builder()
                .table_name(&self.table)
                .set_item(Some(pause_item(*place, pause)))
                .condition_expression(format!("{own_or_free} OR #at <= :hour_ago"))
                .expression_attribute_names("#subject", "subject")
                .expression_attribute_names("#at", "at")
                .expression_attribute_values(":subject", text(set.to_string()))
                .expression_attribute_values(":hour_ago", number(hour_ago));
            let put = put.build().map_err(|error| bug("building a place", &error))?;
            actions.push(TransactWriteItem::builder().put(put).build());
        }
        for place in &places.given_back {
            let delete = Delete::builder()
                .table_name(&self.table)
                .set_key(Some(place_keys(*place)))
                .condition_expression(own_or_free)
                .expression_attribute_names("#subject", "subject")
                .expression_attribute_values(":subject", text(set.to_string()));
            let delete = delete.build().map_err(|error| bug("building a place", &error))?;
            actions.push(TransactWriteItem::builder().delete(delete).build());
        }
        Ok(actions)
    }
}

/// How the board is looked at.
#[derive(Debug)]
enum Look {
    /// Each time it is asked for.
    Always,
    /// Once: as it was read, and what has been saved since and is not applied to it yet. (Whoever decides holds the board while
    /// saving; applied at once, each save would copy all of it.)
    Once(Option<Arc<Board>>, Vec<Change>),
}

/// What became of a transaction.
enum Written {
    All,
    /// The condition of the action at `index` did not hold; `found` is what was there, where that was asked for.
    Nothing {
        index: usize,
        found: Option<Item>,
    },
}

/// The lane of a shard: the same as long as the number of lanes is (FNV-1a).
fn lane_of(shard: &Shard, lanes: u32) -> u32 {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = shard.as_str().bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    // The lowest bits of such a hash of similar names differ too little.
    ((hash ^ (hash >> 32)) % u64::from(lanes.max(1))) as u32
}

fn cancelled<R>(error: &SdkError<TransactWriteItemsError, R>) -> Option<&[CancellationReason]> {
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = error.as_service_error()? else {
        return None;
    };
    Some(cancelled.cancellation_reasons())
}

fn subject_of(name: &str, item: &Item) -> Result<Subject, Malformed> {
    name.parse().map_err(|_| Reader(item).malformed("sk", "a subject"))
}

impl Reputation for DynamoReputation {
    async fn mark(&mut self, shard: &Shard) -> Result<Option<Sequence>, PortError> {
        if let Some(mark) = self.marks.get(shard) {
            return Ok(Some(*mark));
        }
        let mark = parse_mark(&self.get(mark_keys(shard)).await?)?;
        self.marks.extend(mark.map(|mark| (shard.clone(), mark)));
        Ok(mark)
    }

    async fn commit(&mut self, fold: &Fold<'_>, now: Now) -> Result<Committed, PortError> {
        self.note(fold, now).await?;
        // Shards in different lanes never write the same row.
        let (lane, conflicts) = (lane_of(fold.shard(), self.lanes()), self.conflicts);
        let mut written = self.add(fold, lane, now).await;
        if let Err(PortError { disposition: Disposition::Quarantine, reason, .. }) = &written {
            tracing::error!(shard = fold.shard().as_str(), reason, "a row cannot be added to; a row beside it is");
            let row = format!("a rate row of shard {}", fold.shard().as_str());
            self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).insert(row);
            written = self.add(fold, SPARE_LANE, now).await;
        }
        if self.conflicts > conflicts && self.lanes() < MAX_LANES {
            self.lanes_needed = (self.lanes() * 2).min(MAX_LANES);
            tracing::info!(lanes = self.lanes_needed, "shards meet at the rows of a subject: more lanes from now on");
        }
        let (committed, mark) = match written? {
            Written::All => (Committed::Added, Some(fold.last())),
            Written::Nothing { found, .. } => {
                let found = found.unwrap_or_default();
                let mark = parse_mark(&found)?;
                if mark.is_some() && mark == fold.after() {
                    self.rewrite_mark(fold.shard(), &found, fold.after().unwrap_or_default()).await?;
                }
                (Committed::Overtaken { mark }, mark)
            }
        };
        match mark {
            Some(mark) => self.marks.insert(fold.shard().clone(), mark),
            None => self.marks.remove(fold.shard()),
        };
        Ok(committed)
    }

    async fn subject_state(&mut self, subject: &Subject, now: Now) -> Result<&mut SubjectState, PortError> {
        let (from, fine) = (judged_from(now), edge(now));
        let name = subject.to_string();
        let young = Minute(u32::MAX);
        let (known, hours, minutes) = tokio::try_join!(
            self.query(&name, Some(("< :a", text("rate#"), None))),
            self.range(subject, Length::Hour, from, young),
            self.range(subject, Length::Minute, fine, young),
        )?;
        let mut subject_state = SubjectState::default();
        for item in &known {
            let sk = Reader(item).text("sk")?;
            if let Some(isp) = sk.strip_prefix("breaker#") {
                // The breaker of an ISP that the policy no longer names judges nothing any more.
                let isp = if isp.is_empty() { None } else { Some(self.isps.by_name(isp)) };
                let Some(isp) = isp.map_or(Some(None), |known| known.map(Some)) else { continue };
                let read = parse_breaker(item)
                    .and_then(|breaker| Ok(Versioned { breaker, version: Reader(item).number("version")? }));
                match self.readable(read) {
                    Some(known) => _ = subject_state.breakers.insert(isp, known),
                    None => _ = subject_state.unreadable.insert(isp),
                }
            } else if sk == SHARES_MAIL {
                subject_state.shares_mail_with = sharing_of(item);
            } else if let Some(shares_mail_with) = sk.strip_prefix("kin#") {
                subject_state.protected |=
                    self.protected.iter().any(|protected| protected.to_string() == shares_mail_with);
            }
            self.hear(&mut subject_state.timeline, sk);
        }
        // Judging begins where a breaker was re-armed, to the minute: the minutes of those hours are needed, too.
        let mut begun: Vec<Minute> = Vec::new();
        let isps_themselves = self.board(now).await?;
        let breakers = subject_state.breakers.values().map(|known| known.breaker.since);
        for since in breakers.chain(isps_themselves.isps.values().map(|known| known.since)) {
            for minute in [since.pause, since.throttle] {
                let hour = minute.hour();
                if minute != hour && hour >= from && hour < fine && !begun.contains(&hour) {
                    begun.push(hour);
                }
            }
        }
        let this = &*self;
        let parts: Vec<Vec<Item>> = stream::iter(begun)
            .map(|hour| async move { this.range(subject, Length::Minute, hour, hour.plus(HOUR)).await })
            .buffer_unordered(READS)
            .try_collect()
            .await?;
        for items in [&hours, &minutes].into_iter().chain(&parts) {
            self.load(&mut subject_state.timeline, items);
        }
        self.subject_state = subject_state;
        Ok(&mut self.subject_state)
    }

    async fn relatives(&mut self, subjects: &BTreeSet<Subject>) -> Result<BTreeMap<Subject, Relative>, PortError> {
        let operation = "reading who shares mail";
        let this = &*self;
        let item = |subject: Subject, sk: String| async move {
            let get = this.client.get_item().table_name(&this.table).set_key(Some(keys(subject.to_string(), sk)));
            // One of them may have been judged a moment ago.
            let answer = get.consistent_read(true).send().await.map_err(|error| port_error(operation, &error))?;
            Ok::<_, PortError>(answer.item)
        };
        let read = |subject: Subject| async move {
            let breaker = item(subject.clone(), breaker_sk(None, &this.isps));
            let (breaker, shares_mail_with) = tokio::try_join!(breaker, item(subject.clone(), SHARES_MAIL.to_owned()))?;
            // One that cannot be read is reported where it is judged.
            let breaker = breaker.and_then(|item| parse_breaker(&item).ok()).unwrap_or_default();
            let shares_mail_with = shares_mail_with.map(|item| sharing_of(&item)).unwrap_or_default();
            Ok::<_, PortError>((subject, Relative { breaker, shares_mail_with }))
        };
        stream::iter(subjects.iter().cloned().map(read)).buffer_unordered(READS).try_collect().await
    }

    async fn board(&mut self, now: Now) -> Result<Arc<Board>, PortError> {
        if let Look::Once(Some(board), saved) = &mut self.board {
            if !saved.is_empty() {
                let board = Arc::make_mut(board);
                saved.drain(..).for_each(|change| board.apply(&change));
            }
            return Ok(Arc::clone(board));
        }
        let (copies, pauses) = tokio::try_join!(self.query("board", None), self.query("pauses", None))?;
        let mut board = Board::default();
        for item in &copies {
            let Some(key) = parse_board_sk(Reader(item).text("sk")?, &self.isps) else { continue };
            let Some(breaker) = self.readable(parse_breaker(item)) else {
                board.unreadable.insert(key);
                continue;
            };
            if let (Subject::Account, Some(isp)) = (&key.subject, key.isp) {
                board.isps.insert(isp, breaker.clone());
            }
            if !breaker.is_settled() {
                board.unsettled.insert(key, breaker);
            }
        }
        for item in &pauses {
            let Some(place) = parse_place_sk(Reader(item).text("sk")?) else { continue };
            // One that cannot be read stays as it is, so its place cannot be taken.
            let unreadable = || Pause { set: Subject::ConfigurationSet("(unreadable)".into()), at: now, harm: Harm(0) };
            let pause = self.readable(parse_pause(item)).unwrap_or_else(unreadable);
            if !pause.is_over(now) {
                board.pauses.insert(place, pause);
            }
        }
        let board = Arc::new(board);
        if let Look::Once(known, saved) = &mut self.board {
            saved.clear();
            *known = Some(Arc::clone(&board));
        }
        Ok(board)
    }

    async fn account(&mut self, now: Now) -> Result<Vec<&Timeline>, PortError> {
        let oldest = now.minute().minus(KEEP_HOURS).hour();
        let directory = self.directory().await?;
        let sets: Vec<Subject> = directory
            .into_iter()
            .filter(|(subject, heard)| subject.is_part_of_account() && *heard >= oldest)
            .map(|(subject, _)| subject)
            .collect();
        let this = &*self;
        let rates: Vec<Timeline> = stream::iter(&sets)
            .map(|set| async move { this.rates(set, Length::Hour, oldest, Minute(u32::MAX)).await })
            .buffered(READS)
            .try_collect()
            .await?;
        self.account = rates;
        Ok(self.account.iter().collect())
    }

    async fn active(&mut self, since: Minute, _: Now) -> Result<Vec<(&Subject, &Timeline)>, PortError> {
        let is_known = matches!(self.board, Look::Once(..)) && self.active.as_ref().is_some_and(|(of, _)| *of == since);
        if is_known {
            return Ok(self
                .active
                .iter()
                .flat_map(|(_, known)| known)
                .map(|(subject, known)| (subject, known))
                .collect());
        }
        // One query for each sender heard of lately. It costs one read unit for 4 KB: the minutes of an hour with mail to six
        // ISPs take about five, those of a small sender one.
        let is_sender = |subject: &Subject| {
            matches!(subject, Subject::ConfigurationSet(_) | Subject::Identity(_)) && !subject.is_drill()
        };
        let directory = self.directory().await?;
        let heard = directory.into_iter().filter(|(subject, heard)| is_sender(subject) && *heard >= since.hour());
        let this = &*self;
        let active: Vec<(Subject, Timeline)> = stream::iter(heard.map(|(subject, _)| subject))
            .map(|subject| async move {
                let items = this.range(&subject, Length::Minute, since, Minute(u32::MAX)).await?;
                let mut timeline = Timeline::default();
                this.load(&mut timeline, &items);
                Ok::<_, PortError>((subject, timeline))
            })
            .buffered(READS)
            .try_collect()
            .await?;
        let (_, active) = self.active.insert((since, active));
        Ok(active.iter().map(|(subject, timeline)| (subject, timeline)).collect())
    }

    async fn save(&mut self, changes: &[Change]) -> Result<Saved, PortError> {
        let has_controls = changes.iter().any(|change| !change.controls.is_empty());
        match self.save_with(changes, false).await {
            Err(PortError { disposition: Disposition::Quarantine, reason, .. }) if has_controls => {
                tracing::error!(reason, "a desired state cannot be changed, and is written anew");
                self.save_with(changes, true).await
            }
            saved => saved,
        }
    }
}

impl DynamoReputation {
    async fn save_with(&mut self, changes: &[Change], afresh: bool) -> Result<Saved, PortError> {
        // All at once where that is possible. Each change stands for itself, so that a part of them is no harm: whoever
        // decides anew finds them done.
        let mut actions: Vec<TransactWriteItem> = Vec::new();
        let mut groups = Vec::new();
        for change in changes {
            let more = self.actions(change, afresh)?;
            if actions.len() + more.len() > MAX_ACTIONS {
                groups.push(std::mem::take(&mut actions));
            }
            actions.extend(more);
        }
        groups.push(actions);
        for group in groups {
            match self.transact("saving breakers", group).await? {
                Written::All => {}
                Written::Nothing { index, .. } => {
                    tracing::debug!(index, "somebody else was faster");
                    // What they did may be on the board, too.
                    if let Look::Once(board, saved) = &mut self.board {
                        (*board, *saved) = (None, Vec::new());
                    }
                    return Ok(Saved::Conflict);
                }
            }
        }
        if let Look::Once(Some(_), saved) = &mut self.board {
            saved.extend_from_slice(changes);
        }
        Ok(Saved::Saved)
    }

    /// The stack's parameters; `None` if no enforcer has noted them yet.
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    pub async fn parameters(&self) -> Result<Option<StackParameters>, PortError> {
        Ok(parse_parameters(&self.get(parameters_keys()).await?))
    }

    /// Notes the stack's parameters for its operator.
    ///
    /// # Errors
    ///
    /// It was written or not: do it again.
    pub async fn note_parameters(&self, parameters: StackParameters) -> Result<(), PortError> {
        let put = self.client.put_item().table_name(&self.table).set_item(Some(parameters_item(parameters)));
        put.send().await.map(drop).map_err(|error| port_error("noting the stack's parameters", &error))
    }

    /// Claims the period that begins at `at`, of which metrics are to be exported; returns whether it was free. Of several copies
    /// that look in the same period, one prints.
    ///
    /// # Errors
    ///
    /// It was claimed or not: claimed again, it may seem to be claimed by another copy.
    pub async fn claim_export(&mut self, at: Minute) -> Result<bool, PortError> {
        let update = self.client.update_item().table_name(&self.table).set_key(Some(export_keys()));
        let update = update.update_expression("SET #last = :at").expression_attribute_names("#last", "last");
        let update = update.condition_expression("attribute_not_exists(#last) OR #last < :at");
        let update = update.expression_attribute_values(":at", number(at.0));
        match update.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
            Ok(answer) => {
                self.write_units += answer.consumed_capacity().and_then(|used| used.capacity_units()).unwrap_or(0.0);
                Ok(true)
            }
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                Ok(false)
            }
            Err(error) => Err(port_error("claiming a period of metrics", &error)),
        }
    }

    async fn get(&self, keys: Item) -> Result<Item, PortError> {
        let operation = "reading the reputation table";
        let get = self.client.get_item().table_name(&self.table).set_key(Some(keys)).consistent_read(true);
        let answer = get.send().await.map_err(|error| port_error(operation, &error))?;
        Ok(answer.item.unwrap_or_default())
    }
}

impl Schedule for DynamoReputation {
    async fn heard_since(&mut self, hour: Minute) -> Result<Vec<Subject>, PortError> {
        let directory = self.directory().await?;
        Ok(directory.into_iter().filter(|(_, heard)| *heard >= hour).map(|(subject, _)| subject).collect())
    }

    async fn progress(&mut self, round: Sweep<'_>) -> Result<SweepProgress, PortError> {
        let item = self.get(progress_keys(round)).await?;
        // Then the round begins once more, which does no harm.
        Ok(self.readable(parse_progress(&item)).unwrap_or_default())
    }

    async fn set_progress(&mut self, round: Sweep<'_>, progress: &SweepProgress) -> Result<(), PortError> {
        // A batch's is kept in the item of its shard's mark, and expires with it.
        let update = self.client.update_item().table_name(&self.table).set_key(Some(progress_keys(round)));
        let update = update.expression_attribute_values(":done", text(progress.number.to_string()));
        let update = update.expression_attribute_names("#after", "after");
        let update = match &progress.after {
            Some(after) => update
                .update_expression("SET done = :done, #after = :after")
                .expression_attribute_values(":after", text(after.to_string())),
            None => update.update_expression("SET done = :done REMOVE #after"),
        };
        update.send().await.map_err(|error| port_error("saving progress", &error))?;
        Ok(())
    }
}

impl DesiredStates for DynamoReputation {
    async fn desired_states(&mut self) -> Result<Vec<DesiredState>, PortError> {
        let items = self.query("control", None).await?;
        Ok(items.iter().filter_map(|item| self.readable(parse_desired_state(item))).collect())
    }

    async fn note(&mut self, desired: &DesiredState) -> Result<Saved, PortError> {
        let mut sets = vec!["wish = :wish".to_owned(), "version = :next".to_owned()];
        let mut removes = vec!["pending".to_owned()];
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(keys("control", desired.target.to_string())))
            .condition_expression("version = :version")
            .expression_attribute_values(":wish", text(flow_name(desired.flow)))
            .expression_attribute_values(":version", number(desired.version))
            .expression_attribute_values(":next", number(desired.version + 1));
        // Some of the names are words of DynamoDB's own.
        for (name, value) in noted_attributes(desired) {
            update = update.expression_attribute_names(format!("#{name}"), name);
            match value {
                Some(value) => {
                    sets.push(format!("#{name} = :{name}"));
                    update = update.expression_attribute_values(format!(":{name}"), value);
                }
                None => removes.push(format!("#{name}")),
            }
        }
        let expression = format!("SET {} REMOVE {}", sets.join(", "), removes.join(", "));
        match update.update_expression(expression).send().await {
            Ok(_) => Ok(Saved::Saved),
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                Ok(Saved::Conflict)
            }
            Err(error) => Err(port_error("noting a desired state", &error)),
        }
    }

    async fn renew(&mut self, desired: &DesiredState) -> Result<Saved, PortError> {
        let mut item = keys("control", desired.target.to_string());
        item.insert("wish".to_owned(), text(flow_name(desired.flow)));
        item.insert("at".to_owned(), number(desired.at.0));
        item.insert("urgency".to_owned(), number(desired.urgency));
        item.insert("reason".to_owned(), text(desired.reason.as_str()));
        item.insert("pending".to_owned(), AttributeValue::Bool(true));
        item.insert("version".to_owned(), number(1));
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item));
        match put.condition_expression("attribute_not_exists(pk)").send().await {
            Ok(_) => Ok(Saved::Saved),
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                Ok(Saved::Conflict)
            }
            Err(error) => Err(port_error("renewing a desired state", &error)),
        }
    }

    async fn forget(&mut self, desired: &DesiredState) -> Result<Saved, PortError> {
        let delete = self.client.delete_item().table_name(&self.table);
        let delete = delete.set_key(Some(keys("control", desired.target.to_string())));
        let delete = delete.condition_expression("version = :version");
        match delete.expression_attribute_values(":version", number(desired.version)).send().await {
            Ok(_) => Ok(Saved::Saved),
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                Ok(Saved::Conflict)
            }
            Err(error) => Err(port_error("forgetting a desired state", &error)),
        }
    }
}

impl MailHistory for DynamoReputation {
    async fn heard(&self) -> Result<BTreeMap<Subject, Minute>, PortError> {
        self.directory().await
    }

    async fn hours(&self, subject: &Subject, from: Minute, until: Minute) -> Result<Timeline, PortError> {
        self.rates(subject, Length::Hour, from, until).await
    }
}

impl Outbox for DynamoReputation {
    async fn unsent(&mut self) -> Result<Vec<Notice>, PortError> {
        let items = self.query("outbox", None).await?;
        Ok(items.iter().filter_map(|item| self.readable(parse_notice(item))).collect())
    }

    async fn put(&mut self, notice: &Notice) -> Result<(), PortError> {
        let at = notice.id.split('#').next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
        let once = Put::builder()
            .table_name(&self.table)
            .set_item(Some(notice_item("notices", notice, Now(at))))
            .condition_expression("attribute_not_exists(pk)")
            .build();
        let once = once.map_err(|error| bug("building a notice", &error))?;
        let actions = vec![
            TransactWriteItem::builder().put(once).build(),
            DynamoReputation::put(self, notice_item("outbox", notice, Now(at)))?,
        ];
        // If it was put in before, that is that.
        self.transact("putting in a notice", actions).await.map(|_| ())
    }

    async fn sent(&mut self, ids: &[String]) -> Result<(), PortError> {
        // Together, as far as one transaction goes.
        for ids in ids.chunks(MAX_ACTIONS) {
            let actions: Result<Vec<_>, _> = ids.iter().map(|id| self.delete(keys("outbox", id.as_str()))).collect();
            self.transact("crossing out notices", actions?).await?;
        }
        Ok(())
    }

    async fn alert_queue(&mut self) -> Result<AlertQueue, PortError> {
        let item = self.get(keys("desk", "people")).await?;
        if item.is_empty() {
            return Ok(AlertQueue::default());
        }
        Ok(readable_queue(&item))
    }

    async fn keep(&mut self, alert_queue: &AlertQueue) -> Result<Saved, PortError> {
        let operation = "saving the alert queue";
        let put = self.client.put_item().table_name(&self.table).set_item(Some(alert_queue_item(alert_queue)?));
        let put = match alert_queue.version {
            NO_VERSION => {
                put.condition_expression("NOT attribute_type(version, :n)").expression_attribute_values(":n", text("N"))
            }
            0 => put.condition_expression("attribute_not_exists(pk)"),
            version => put.condition_expression("version = :v").expression_attribute_values(":v", number(version)),
        };
        match put.send().await {
            Ok(_) => Ok(Saved::Saved),
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                Ok(Saved::Conflict)
            }
            Err(error) => Err(port_error(operation, &error)),
        }
    }
}

/// The alert queue as an item: its content is only ours to read.
fn alert_queue_item(alert_queue: &AlertQueue) -> Result<Item, PortError> {
    let mut item = keys("desk", "people");
    item.insert("version".to_owned(), number(alert_queue.version.wrapping_add(1).max(1)));
    let content = serde_json::to_string(alert_queue).map_err(|error| bug("writing the alert queue", &error))?;
    item.insert("content".to_owned(), text(content));
    Ok(item)
}

/// The alert queue that an item holds. One that cannot be read (a release that went back finds what a newer one wrote) is begun
/// anew: its notices are still in the outbox.
fn readable_queue(item: &Item) -> AlertQueue {
    let read = Reader(item);
    let content = read.text("content").map_err(|malformed| malformed.to_string());
    let alert_queue =
        content.and_then(|content| serde_json::from_str::<AlertQueue>(content).map_err(|error| error.to_string()));
    let alert_queue =
        alert_queue.inspect_err(|error| tracing::error!(%error, "the alert queue cannot be read; a new one is begun"));
    AlertQueue { version: read.number("version").unwrap_or(NO_VERSION), ..alert_queue.unwrap_or_default() }
}

/// Stands for a version of the alert queue that is not a number: what is there is overwritten.
const NO_VERSION: u64 = u64::MAX;
