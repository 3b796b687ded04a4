//! Counters, breakers, wishes and notices over DynamoDB.
//!
//! **Rates.** A fold becomes one transaction: a marker that must not exist yet, and one `ADD` for each row. If the marker
//! exists, the transaction is cancelled and tells what the marker holds. A row is read back by adding up its lanes.
//!
//! **Breakers.** Each has a version, and is written upon the version that it was read under, in one transaction with its
//! copy on the board, the wish that follows, and the notice that tells of it. So a wish or a notice without its
//! breaker, or a breaker without its wish, does not exist at any moment.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;
use aws_sdk_dynamodb::types::{
    AttributeValue, CancellationReason, Delete, Put, ReturnConsumedCapacity, ReturnValuesOnConditionCheckFailure,
    TransactWriteItem, Update,
};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use pipeline::digest::Books;
use pipeline::enforce::{Flow, Wished, Wishes};
use pipeline::fold::{Counter, Fold, Limits, Row};
use pipeline::notice::{Desk, Notice, Outbox};
use pipeline::ports::{
    Board, Change, Committed, ControlKind, Disposition, Dossier, PortError, Reputation, Saved, Versioned,
};
use pipeline::rounds::{HourDone, Rounds};
use reputation::detect::Level;
use reputation::isp::{Isp, IspMap};
use reputation::policy::Policy;
use reputation::subject::Subject;
use reputation::time::{HOUR, MINUTE_MILLIS, Minute, Now};
use reputation::timeline::{KEEP_HOURS, Length, Timeline, edge, judged_from};
use reputation::unit::UnitKind;

use crate::clients::port_error;
use crate::layout::{
    DIRECTORY_DAYS, Item, MARKER_DAYS, Malformed, Reader, board_sk, breaker_attributes, breaker_sk, counters, expiry,
    flow_name, has_expired, keys, noted_attributes, notice_item, number, parse_board_sk, parse_breaker, parse_notice,
    parse_rate_sk, parse_wish, rate_expiry, rate_sk, text,
};
use crate::ledger::bug;
use crate::pace::Backoff;

/// DynamoDB takes so many actions in one transaction.
const MOST_ACTIONS: usize = 100;
/// Begins the sort keys that name an ISP from which a complaint has come.
const HEARD: &str = "heard#";
/// So many reads at a time.
const READS: usize = 8;

/// What one commit can hold: a marker and 99 rows. An update expression takes 4 KB; a counter takes up to 12 bytes of it.
pub const LIMITS: Limits = Limits { rows: MOST_ACTIONS - 1, counters: 250 };

/// The reputation table.
#[derive(Debug)]
pub struct DynamoReputation {
    client: Client,
    table: String,
    isps: IspMap,
    protected: Vec<Subject>,
    lanes: u32,
    dossier: Dossier,
    account: Vec<Timeline>,
    /// The last hour in which this process has noted each subject in the directory.
    noted: HashMap<Subject, Minute>,
    /// Subjects that this process has noted to share mail with a protected one.
    kin: HashSet<(Subject, Subject)>,
    heard: HashSet<(Subject, Isp)>,
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
            dossier: Dossier::default(),
            account: Vec::new(),
            noted: HashMap::new(),
            kin: HashSet::new(),
            heard: HashSet::new(),
            write_units: 0.0,
        }
    }

    /// Takes another policy into use.
    pub fn set_policy(&mut self, policy: &Policy) {
        self.isps = policy.isp_map.clone();
        self.protected.clone_from(&policy.subjects.protected);
        self.lanes = policy.lanes;
    }

    /// The ISPs that counters are named after.
    pub fn isps(&self) -> &IspMap {
        &self.isps
    }

    /// All rows of one length of a subject that begin in `[from, until)`, for whoever shows them.
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
        Ok(items.iter().filter_map(|item| readable(entry(item))).collect())
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
        Ok(answer.items().iter().map(dated).collect::<Result<_, _>>()?)
    }

    /// What people were told when a breaker moved; `name` is the breaker's, as in [`pipeline::notice::key_name`].
    ///
    /// # Errors
    ///
    /// Nothing is known then: ask again.
    pub async fn notice_of(&self, name: &str, moved: Now) -> Result<Option<Notice>, PortError> {
        // See [`Notice::of`]: a notice is named by its time, the breaker and the breaker's version.
        let from = format!("{:013}#{name}#", moved.0.max(0));
        let between = ("BETWEEN :a AND :b", text(from.as_str()), Some(text(format!("{from}~"))));
        Ok(self.query("notices", Some(between)).await?.last().map(parse_notice).transpose()?)
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
        }
    }

    /// Notes who was heard of in this hour, who shares mail with a protected subject, and at which ISPs without a known
    /// feedback loop a complaint was counted. Before their units are added: once added they are never seen again.
    async fn note(&mut self, fold: &Fold<'_>, now: Now) -> Result<(), PortError> {
        let hour = now.minute().hour();
        let mut items: Vec<Item> = Vec::new();
        let mut noted = Vec::new();
        let mut kin = HashSet::new();
        let mut heard = HashSet::new();
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
                for protected in subjects.iter().filter(|other| self.protected.contains(other)) {
                    let pair = (subject.clone(), protected.clone());
                    if !self.kin.contains(&pair) && kin.insert(pair) {
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
        self.write_units += used;
        self.noted.extend(noted.into_iter().map(|subject| (subject, hour)));
        self.kin.extend(kin);
        self.heard.extend(heard);
        Ok(())
    }

    /// Writes all of it or nothing. Conflicts with others are tried again; a condition that does not hold is told.
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

    /// The marker of a fold: its sequence number, and a few bits of its first unit in case two shards of the stream use the
    /// same numbers.
    fn marker_keys(fold: &Fold<'_>) -> Item {
        let unit = fold.records().first().map_or(0, |record| record.unit.key.0 >> 96);
        keys(format!("fold#{}#{unit:08x}", fold.first()), "marker")
    }

    fn marker(&self, fold: &Fold<'_>, now: Now) -> Result<TransactWriteItem, PortError> {
        let mut item = Self::marker_keys(fold);
        item.insert("last".to_owned(), text(fold.last().to_string()));
        item.insert("expires".to_owned(), expiry(now, MARKER_DAYS));
        let put = Put::builder().table_name(&self.table).set_item(Some(item));
        let put = put.condition_expression("attribute_not_exists(pk)");
        let put = put.return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld).build();
        let put = put.map_err(|error| bug("building a marker", &error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// Adds to the counters of a row, in the lane of this fold.
    fn increment(
        &self,
        row: Row<'_>,
        counters: &BTreeMap<Counter, u32>,
        lane: u32,
    ) -> Result<TransactWriteItem, PortError> {
        let mut sk = rate_sk(row.length, row.from);
        if lane > 0 {
            sk.push_str(&format!("#{lane}"));
        }
        let mut update = Update::builder().table_name(&self.table).set_key(Some(keys(row.subject.to_string(), sk)));
        let mut adds = Vec::with_capacity(counters.len());
        for (index, ((isp, kind), count)) in counters.iter().enumerate() {
            let attribute = format!("{}.{}", self.isps.name(*isp), kind.counter_name());
            update = update.expression_attribute_names(format!("#{index}"), attribute);
            update = update.expression_attribute_values(format!(":{index}"), number(count));
            adds.push(format!("#{index} :{index}"));
        }
        update = update.expression_attribute_values(":e", rate_expiry(row.length, row.from));
        let update = update.update_expression(format!("SET expires = :e ADD {}", adds.join(",")));
        let update = update.build().map_err(|error| bug("building an increment", &error))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    /// What saving one change takes; the breaker itself first.
    fn actions(&self, change: &Change) -> Result<Vec<TransactWriteItem>, PortError> {
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
        let urgency = change.transition.as_ref().and_then(|told| told.verdict).map_or(1.0, |verdict| verdict.excess());
        for control in &change.controls {
            let flow = match control.kind {
                // A person's pauses do not use up the hour's.
                ControlKind::PauseConfigurationSet
                    if change.transition.as_ref().is_some_and(|told| told.level == Some(Level::Pause)) =>
                {
                    let mut item = keys("pauses", control.target.to_string());
                    item.insert("at".to_owned(), number(control.at.0));
                    item.insert("expires".to_owned(), number(control.at.0.div_euclid(1000) + 3600));
                    actions.push(self.put(item)?);
                    Flow::Stopped
                }
                ControlKind::PauseConfigurationSet | ControlKind::PauseTenant | ControlKind::PauseAccount => {
                    Flow::Stopped
                }
                ControlKind::ResumeConfigurationSet | ControlKind::ResumeTenant | ControlKind::ResumeAccount => {
                    Flow::Flowing
                }
                ControlKind::SetQuotaFactor(_) | ControlKind::HoldIsp | ControlKind::ReleaseIsp => continue,
            };
            let wish = Update::builder()
                .table_name(&self.table)
                .set_key(Some(keys("control", control.target.to_string())))
                .update_expression(
                    "SET wish = :wish, #at = :at, urgency = :urgency, reason = :reason, pending = :true ADD version :one",
                )
                .expression_attribute_names("#at", "at")
                .expression_attribute_values(":wish", text(flow_name(flow)))
                .expression_attribute_values(":at", number(control.at.0))
                .expression_attribute_values(":urgency", number(urgency))
                .expression_attribute_values(":reason", text(control.reason.as_str()))
                .expression_attribute_values(":true", AttributeValue::Bool(true))
                .expression_attribute_values(":one", number(1));
            let wish = wish.build().map_err(|error| bug("building a wish", &error))?;
            actions.push(TransactWriteItem::builder().update(wish).build());
        }
        if let (Some(notice), Some(told)) = (Notice::of(change, &self.isps), &change.transition) {
            for pk in ["notices", "outbox"] {
                actions.push(self.put(notice_item(pk, &notice, told.at))?);
            }
        }
        Ok(actions)
    }
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

fn cancelled<R>(error: &SdkError<TransactWriteItemsError, R>) -> Option<&[CancellationReason]> {
    let TransactWriteItemsError::TransactionCanceledException(cancelled) = error.as_service_error()? else {
        return None;
    };
    Some(cancelled.cancellation_reasons())
}

/// One item that cannot be read (a release that went back finds what a newer one wrote) must not stop everything.
fn readable<T>(read: Result<T, Malformed>) -> Option<T> {
    read.inspect_err(|error| tracing::error!(%error, "passed over")).ok()
}

fn subject_of(name: &str, item: &Item) -> Result<Subject, Malformed> {
    name.parse().map_err(|_| Malformed {
        item: Reader(item).text("pk").unwrap_or("?").to_owned(),
        attribute: "sk".to_owned(),
        found: format!("a string of {} bytes", name.len()),
        expected: "a subject",
    })
}

impl Reputation for DynamoReputation {
    async fn commit(&mut self, fold: &Fold<'_>, now: Now) -> Result<Committed, PortError> {
        self.note(fold, now).await?;
        let lane = match fold.records().first() {
            Some(record) if self.lanes > 1 => (record.unit.key.0 % u128::from(self.lanes)) as u32,
            Some(_) | None => 0,
        };
        let mut actions = vec![self.marker(fold, now)?];
        for (row, counters) in &fold.increments(now) {
            actions.push(self.increment(*row, counters, lane)?);
        }
        match self.transact("adding a fold", actions).await? {
            Written::All => Ok(Committed::Added),
            Written::Nothing { found, .. } => {
                // The transaction returns the marker; should it not, the marker can be read.
                let marker = match found.filter(|item| item.contains_key("last")) {
                    Some(marker) => marker,
                    None => self.get(Self::marker_keys(fold)).await?,
                };
                let last = Reader(&marker).text("last")?.parse();
                let reason = "its marker holds no sequence number".to_owned();
                let malformed = PortError { operation: "adding a fold", reason, disposition: Disposition::Halt };
                Ok(Committed::Known { last: last.map_err(|_| malformed)? })
            }
        }
    }

    async fn dossier(&mut self, subject: &Subject, now: Now) -> Result<&mut Dossier, PortError> {
        let (from, fine) = (judged_from(now), edge(now));
        let name = subject.to_string();
        let young = Minute(u32::MAX);
        let (known, hours, minutes) = tokio::try_join!(
            self.query(&name, Some(("< :a", text("rate#"), None))),
            self.range(subject, Length::Hour, from, young),
            self.range(subject, Length::Minute, fine, young),
        )?;
        let mut dossier = Dossier::default();
        for item in &known {
            let sk = Reader(item).text("sk")?;
            if let Some(isp) = sk.strip_prefix("breaker#") {
                // The breaker of an ISP that the policy no longer names judges nothing any more.
                let isp = if isp.is_empty() { None } else { Some(self.isps.by_name(isp)) };
                let Some(isp) = isp.map_or(Some(None), |known| known.map(Some)) else { continue };
                let versioned = Versioned { breaker: parse_breaker(item)?, version: Reader(item).number("version")? };
                dossier.breakers.insert(isp, versioned);
            } else if let Some(kin) = sk.strip_prefix("kin#") {
                dossier.protected |= self.protected.iter().any(|protected| protected.to_string() == kin);
            }
            self.hear(&mut dossier.timeline, sk);
        }
        // Judging begins where a breaker was re-armed, to the minute: the minutes of those hours are needed, too.
        let mut begun: Vec<Minute> = Vec::new();
        let isps_themselves = self.board(now).await?;
        let breakers = dossier.breakers.values().map(|known| known.breaker.since);
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
            self.load(&mut dossier.timeline, items);
        }
        self.dossier = dossier;
        Ok(&mut self.dossier)
    }

    async fn board(&mut self, now: Now) -> Result<Arc<Board>, PortError> {
        let (copies, pauses) = tokio::try_join!(self.query("board", None), self.query("pauses", None))?;
        let mut board = Board::default();
        for item in &copies {
            let Some(key) = parse_board_sk(Reader(item).text("sk")?, &self.isps) else { continue };
            let Some(breaker) = readable(parse_breaker(item)) else { continue };
            if let (Subject::Account, Some(isp)) = (&key.subject, key.isp) {
                board.isps.insert(isp, breaker.clone());
            }
            if !breaker.is_settled() {
                board.unsettled.insert(key, breaker);
            }
        }
        let hour_ago = Now(now.0 - i64::from(HOUR) * MINUTE_MILLIS);
        for item in pauses.iter().filter(|item| !has_expired(item, now)) {
            let (target, at) = (subject_of(Reader(item).text("sk")?, item)?, Now(Reader(item).number("at")?));
            if at > hour_ago {
                board.pauses.insert(target, at);
            }
        }
        Ok(Arc::new(board))
    }

    async fn account(&mut self, now: Now) -> Result<Vec<&Timeline>, PortError> {
        let oldest = now.minute().minus(KEEP_HOURS).hour();
        let directory = self.directory().await?;
        let sets: Vec<Subject> = directory
            .into_iter()
            .filter(|(subject, heard)| matches!(subject, Subject::ConfigurationSet(_)) && *heard >= oldest)
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

    async fn save(&mut self, changes: &[Change]) -> Result<Saved, PortError> {
        // All at once where that is possible. Each change stands for itself, so that a part of them is no harm: whoever
        // decides anew finds them done.
        let mut actions: Vec<TransactWriteItem> = Vec::new();
        let mut groups = Vec::new();
        for change in changes {
            let more = self.actions(change)?;
            if actions.len() + more.len() > MOST_ACTIONS {
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
                    return Ok(Saved::Conflict);
                }
            }
        }
        Ok(Saved::Saved)
    }
}

impl DynamoReputation {
    async fn get(&self, keys: Item) -> Result<Item, PortError> {
        let operation = "reading the reputation table";
        let get = self.client.get_item().table_name(&self.table).set_key(Some(keys)).consistent_read(true);
        let answer = get.send().await.map_err(|error| port_error(operation, &error))?;
        Ok(answer.item.unwrap_or_default())
    }
}

impl Rounds for DynamoReputation {
    async fn heard_since(&mut self, hour: Minute) -> Result<Vec<Subject>, PortError> {
        let directory = self.directory().await?;
        Ok(directory.into_iter().filter(|(_, heard)| *heard >= hour).map(|(subject, _)| subject).collect())
    }

    async fn hour_done(&mut self) -> Result<HourDone, PortError> {
        let item = self.get(keys("clock", "hour")).await?;
        let read = Reader(&item);
        let after = match item.contains_key("after") {
            true => Some(subject_of(read.text("after")?, &item)?),
            false => None,
        };
        Ok(HourDone { hour: Minute(read.maybe_number("done")?.unwrap_or(0)), after })
    }

    async fn set_hour_done(&mut self, done: &HourDone) -> Result<(), PortError> {
        let mut item = keys("clock", "hour");
        item.insert("done".to_owned(), number(done.hour.0));
        if let Some(after) = &done.after {
            item.insert("after".to_owned(), text(after.to_string()));
        }
        let put = self.client.put_item().table_name(&self.table).set_item(Some(item));
        put.send().await.map_err(|error| port_error("noting the hour", &error))?;
        Ok(())
    }
}

impl Wishes for DynamoReputation {
    async fn wishes(&mut self) -> Result<Vec<Wished>, PortError> {
        let items = self.query("control", None).await?;
        Ok(items.iter().filter_map(|item| readable(parse_wish(item))).collect())
    }

    async fn note(&mut self, wished: &Wished) -> Result<Saved, PortError> {
        let mut sets = vec!["wish = :wish".to_owned(), "version = :next".to_owned()];
        let mut removes = vec!["pending".to_owned()];
        let mut update = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(keys("control", wished.target.to_string())))
            .condition_expression("version = :version")
            .expression_attribute_values(":wish", text(flow_name(wished.wish)))
            .expression_attribute_values(":version", number(wished.version))
            .expression_attribute_values(":next", number(wished.version + 1));
        // Some of the names are words of DynamoDB's own.
        for (name, value) in noted_attributes(wished) {
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
            Err(error) => Err(port_error("noting a wish", &error)),
        }
    }

    async fn renew(&mut self, wished: &Wished) -> Result<Saved, PortError> {
        let mut item = keys("control", wished.target.to_string());
        item.insert("wish".to_owned(), text(flow_name(wished.wish)));
        item.insert("at".to_owned(), number(wished.at.0));
        item.insert("urgency".to_owned(), number(wished.urgency));
        item.insert("reason".to_owned(), text(wished.reason.as_str()));
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
            Err(error) => Err(port_error("renewing a wish", &error)),
        }
    }

    async fn forget(&mut self, wished: &Wished) -> Result<Saved, PortError> {
        let delete = self.client.delete_item().table_name(&self.table);
        let delete = delete.set_key(Some(keys("control", wished.target.to_string())));
        let delete = delete.condition_expression("version = :version");
        match delete.expression_attribute_values(":version", number(wished.version)).send().await {
            Ok(_) => Ok(Saved::Saved),
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                Ok(Saved::Conflict)
            }
            Err(error) => Err(port_error("forgetting a wish", &error)),
        }
    }
}

impl Books for DynamoReputation {
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
        Ok(items.iter().filter_map(|item| readable(parse_notice(item))).collect())
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
        for ids in ids.chunks(MOST_ACTIONS) {
            let actions: Result<Vec<_>, _> = ids.iter().map(|id| self.delete(keys("outbox", id.as_str()))).collect();
            self.transact("crossing out notices", actions?).await?;
        }
        Ok(())
    }

    async fn desk(&mut self) -> Result<Desk, PortError> {
        let item = self.get(keys("desk", "people")).await?;
        if item.is_empty() {
            return Ok(Desk::default());
        }
        readable_desk(&item)
    }

    async fn keep(&mut self, desk: &Desk) -> Result<Saved, PortError> {
        let operation = "saving the desk";
        let put = self.client.put_item().table_name(&self.table).set_item(Some(desk_item(desk)?));
        let put = match desk.version {
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

/// The desk as an item: its content is only ours to read.
fn desk_item(desk: &Desk) -> Result<Item, PortError> {
    let mut item = keys("desk", "people");
    item.insert("version".to_owned(), number(desk.version + 1));
    let content = serde_json::to_string(desk).map_err(|error| bug("writing the desk", &error))?;
    item.insert("content".to_owned(), text(content));
    Ok(item)
}

/// The desk that an item holds. One that cannot be read (a release that went back finds what a newer one wrote) is begun
/// anew: its notices are still in the outbox.
fn readable_desk(item: &Item) -> Result<Desk, PortError> {
    let read = Reader(item);
    let version = read.number("version")?;
    let desk = serde_json::from_str::<Desk>(read.text("content")?);
    let desk = desk.inspect_err(|error| tracing::error!(%error, "the desk cannot be read; begun anew"));
    Ok(Desk { version, ..desk.unwrap_or_default() })
}
