//! Quotas over DynamoDB: one item for each configuration set and ISP, and every change of it one conditional write.
//!
//! **Lost answers.** The SDK calls again when an answer does not come, though the first call may have been carried out.
//! - A spend that is repeated finds its lease and is refused with the item as it stands, in which the caller sees the lease.
//! - A day that is put again is refused, and the caller looks again and finds it.
//! - A return leaves a name of its own in the item; when it is repeated, that name says that it was carried out. What
//!   remains: if another lease of the same quota is returned between the two, the answer to the repeated one is that its lease is
//!   unknown. It was returned, once; nothing is counted twice.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{
    AttributeValue, ConsumedCapacity, ReturnConsumedCapacity, ReturnValue, ReturnValuesOnConditionCheckFailure,
};
use pipeline::ports::{PortError, Quota, Quotas, Saved, Spent};
use reputation::isp::{Isp, IspMap};
use reputation::permit::{Lease, LeaseId, MarkMove, MarkRefund, Refund, Spend};
use reputation::time::Now;
use reputation::warmup::Ramp;

use crate::clients::port_error;
use crate::layout::{
    Item, Malformed, Reader, keys, lease_attribute, lease_value, number, parse_quota, quota_item, quota_pk,
    ramp_attributes, step_text, text,
};

/// The quotas in the reputation table.
#[derive(Debug)]
pub struct DynamoQuotas {
    client: Client,
    table: String,
    isps: IspMap,
    /// Quotas are asked for at the same time.
    write_units: Mutex<f64>,
    /// The last quota that was passed over because it cannot be read.
    unreadable: Mutex<Option<Malformed>>,
}

impl DynamoQuotas {
    /// The quotas in this table; ISPs go by the names of this map.
    pub fn new(client: Client, table: impl Into<String>, isps: IspMap) -> DynamoQuotas {
        DynamoQuotas { client, table: table.into(), isps, write_units: Mutex::default(), unreadable: Mutex::default() }
    }

    /// Takes another map of ISPs into use.
    pub fn set_isps(&mut self, isps: IspMap) {
        self.isps = isps;
    }

    /// Write units used so far, as far as DynamoDB says: of a write whose condition does not hold it says nothing, though it
    /// charges as much for it.
    pub fn write_units(&self) -> f64 {
        *self.write_units.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is wrong with a quota that [`Quotas::quotas`] passed over since this was last asked: it stays as it is.
    pub fn take_unreadable(&self) -> Option<Malformed> {
        self.unreadable.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Whether the table can be written: tries a change whose condition never holds, because no configuration set has an
    /// empty name.
    ///
    /// # Errors
    ///
    /// It cannot.
    pub async fn try_write(&self) -> Result<(), PortError> {
        let mut update = Update::default();
        update.only_if("day", "<", number(i32::MIN));
        update.remove("day");
        self.update_item("trying to write", keys(quota_pk(""), "none"), update).await.map(|_| ())
    }

    fn charge(&self, used: Option<&ConsumedCapacity>) {
        let used = used.and_then(ConsumedCapacity::capacity_units).unwrap_or(0.0);
        *self.write_units.lock().unwrap_or_else(PoisonError::into_inner) += used;
    }

    fn keys(&self, set: &str, isp: Isp) -> Item {
        keys(quota_pk(set), self.isps.name(isp))
    }

    /// Changes a quota on a condition.
    async fn update(&self, operation: &'static str, set: &str, isp: Isp, update: Update) -> Result<Updated, PortError> {
        self.update_item(operation, self.keys(set, isp), update).await
    }

    async fn update_item(&self, operation: &'static str, keys: Item, update: Update) -> Result<Updated, PortError> {
        let mut call = self
            .client
            .update_item()
            .table_name(&self.table)
            .set_key(Some(keys))
            .return_values(ReturnValue::AllNew)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        call = update.into_call(call);
        match call.send().await {
            Ok(answer) => {
                self.charge(answer.consumed_capacity());
                Ok(Updated::To(answer.attributes.unwrap_or_default()))
            }
            Err(error) => match error.as_service_error() {
                Some(UpdateItemError::ConditionalCheckFailedException(failed)) => {
                    Ok(Updated::Not(failed.item().cloned().unwrap_or_default()))
                }
                Some(_) | None => Err(port_error(operation, &error)),
            },
        }
    }
}

/// What became of a conditional change, and the item as it stands; an empty one if there is none.
enum Updated {
    To(Item),
    Not(Item),
}

/// An update expression and its condition, as they grow.
#[derive(Default)]
struct Update {
    names: Vec<(String, String)>,
    values: Vec<(String, AttributeValue)>,
    conditions: Vec<String>,
    sets: Vec<String>,
    adds: Vec<String>,
    removes: Vec<String>,
}

impl Update {
    /// A short name for an attribute: many of ours are words of DynamoDB's, or hold a dot.
    fn name(&mut self, attribute: &str) -> String {
        if let Some((short, _)) = self.names.iter().find(|(_, known)| known == attribute) {
            return short.clone();
        }
        let short = format!("#{}", self.names.len());
        self.names.push((short.clone(), attribute.to_owned()));
        short
    }

    fn value(&mut self, value: AttributeValue) -> String {
        let short = format!(":{}", self.values.len());
        self.values.push((short.clone(), value));
        short
    }

    /// The change is made only if the attribute compares like that.
    fn only_if(&mut self, attribute: &str, comparison: &str, value: AttributeValue) {
        let (name, value) = (self.name(attribute), self.value(value));
        self.conditions.push(format!("{name} {comparison} {value}"));
    }

    fn only_without(&mut self, attribute: &str) {
        let name = self.name(attribute);
        self.conditions.push(format!("attribute_not_exists({name})"));
    }

    fn set(&mut self, attribute: &str, value: AttributeValue) {
        let (name, value) = (self.name(attribute), self.value(value));
        self.sets.push(format!("{name} = {value}"));
    }

    fn add(&mut self, attribute: &str, value: impl ToString) {
        let (name, value) = (self.name(attribute), self.value(number(value)));
        self.adds.push(format!("{name} {value}"));
    }

    fn remove(&mut self, attribute: &str) {
        let name = self.name(attribute);
        if !self.removes.contains(&name) {
            self.removes.push(name);
        }
    }

    fn into_call(self, mut call: UpdateItemFluentBuilder) -> UpdateItemFluentBuilder {
        let parts = [("SET", &self.sets), ("ADD", &self.adds), ("REMOVE", &self.removes)];
        let parts = parts.iter().filter(|(_, actions)| !actions.is_empty());
        let parts: Vec<String> = parts.map(|(verb, actions)| format!("{verb} {}", actions.join(", "))).collect();
        for (short, attribute) in self.names {
            call = call.expression_attribute_names(short, attribute);
        }
        for (short, value) in self.values {
            call = call.expression_attribute_values(short, value);
        }
        call.condition_expression(self.conditions.join(" AND ")).update_expression(parts.join(" "))
    }
}

/// Names the last return that was carried out.
const RETURNED: &str = "returned";

impl Quotas for DynamoQuotas {
    async fn quota(&self, set: &str, isp: Isp) -> Result<Option<Quota>, PortError> {
        let get = self.client.get_item().table_name(&self.table).set_key(Some(self.keys(set, isp)));
        let answer = get.consistent_read(true).send().await;
        let answer = answer.map_err(|error| port_error("reading a quota", &error))?;
        Ok(answer.item().map(parse_quota).transpose()?)
    }

    async fn quotas(&self, set: &str) -> Result<BTreeMap<Isp, Quota>, PortError> {
        let query = self.client.query().table_name(&self.table).consistent_read(true);
        let query = query.key_condition_expression("pk = :pk").expression_attribute_values(":pk", text(quota_pk(set)));
        let pages = query.into_paginator().items().send();
        let items = pages.collect::<Result<Vec<Item>, _>>().await;
        let items = items.map_err(|error| port_error("reading quotas", &error))?;
        let mut quotas = BTreeMap::new();
        for item in &items {
            // No permit is asked for at an ISP that the policy no longer names.
            let Some(isp) = self.isps.by_name(Reader(item).text("sk")?) else { continue };
            match parse_quota(item) {
                Ok(quota) => _ = quotas.insert(isp, quota),
                // It stays as it is, and the others go on.
                Err(error) => *self.unreadable.lock().unwrap_or_else(PoisonError::into_inner) = Some(error),
            }
        }
        Ok(quotas)
    }

    async fn open(&self, set: &str, isp: Isp, old: Option<&Quota>, new: &Quota) -> Result<Saved, PortError> {
        let mut put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(quota_item(quota_pk(set), self.isps.name(isp), new)))
            .return_consumed_capacity(ReturnConsumedCapacity::Total);
        put = match old {
            None => put.condition_expression("attribute_not_exists(pk)"),
            Some(Quota { ramp, meter, .. }) => {
                // Day, quota and step stand for all of the ramp: of one day there is one, unless a person sets it. A grant
                // changes the meter, and so does a return; but for one of no mails, whose lease is remembered again.
                let same = [
                    ("day", number(ramp.day)),
                    ("quota", number(ramp.quota)),
                    ("step", text(step_text(&ramp.step))),
                    ("bulk", number(meter.bulk)),
                    ("critical", number(meter.critical)),
                    ("mark", number(meter.mark.0)),
                ];
                let condition = same.each_ref().map(|(name, _)| format!("#{name} = :{name}")).join(" AND ");
                for (name, value) in same {
                    put = put.expression_attribute_names(format!("#{name}"), name);
                    put = put.expression_attribute_values(format!(":{name}"), value);
                }
                put.condition_expression(condition)
            }
        };
        match put.send().await {
            Ok(answer) => {
                self.charge(answer.consumed_capacity());
                Ok(Saved::Saved)
            }
            Err(error)
                if error.as_service_error().is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                Ok(Saved::Conflict)
            }
            Err(error) => Err(port_error("opening a day", &error)),
        }
    }

    async fn set(&self, set: &str, isp: Isp, old: &Ramp, new: &Ramp) -> Result<Saved, PortError> {
        let mut update = Update::default();
        update.only_if("day", "=", number(old.day));
        update.only_if("quota", "=", number(old.quota));
        update.only_if("step", "=", text(step_text(&old.step)));
        for (name, value) in ramp_attributes(new) {
            match value {
                Some(value) => update.set(name, value),
                None => update.remove(name),
            }
        }
        update.set("short", AttributeValue::Bool(false));
        Ok(match self.update("setting a quota", set, isp, update).await? {
            Updated::To(_) => Saved::Saved,
            Updated::Not(_) => Saved::Conflict,
        })
    }

    async fn spend(
        &self,
        set: &str,
        isp: Isp,
        spend: &Spend,
        lease: &Lease,
        forgotten: &[LeaseId],
    ) -> Result<Spent, PortError> {
        let mut update = Update::default();
        let name = lease_attribute(lease.id);
        update.only_if("day", "=", number(spend.day));
        update.only_if("quota", "=", number(spend.quota));
        update.only_without(&name);
        update.set(&name, lease_value(lease, lease.day));
        for (counter, mails, most) in
            [("bulk", spend.bulk, spend.most_bulk), ("critical", spend.critical, spend.most_critical)]
        {
            update.only_if(counter, "<=", number(most));
            if mails > 0 {
                update.add(counter, mails);
            }
        }
        update.set("short", AttributeValue::Bool(spend.short));
        match spend.mark {
            MarkMove::Stay => {}
            MarkMove::Advance(by, from, to) => {
                update.only_if("mark", ">=", number(from.0));
                update.only_if("mark", "<=", number(to.0));
                update.add("mark", by);
            }
            MarkMove::Lift(to, below) => {
                update.only_if("mark", "<", number(below.0));
                update.set("mark", number(to.0));
            }
        }
        for id in forgotten.iter().filter(|id| !id.same_name(lease.id)) {
            update.remove(&lease_attribute(*id));
        }
        Ok(match self.update("granting a permit", set, isp, update).await? {
            Updated::To(item) => Spent::Granted(parse_quota(&item)?),
            // There is no item; or this endpoint does not say what is there.
            Updated::Not(item) if item.is_empty() => Spent::Refused(self.quota(set, isp).await?),
            Updated::Not(item) => Spent::Refused(Some(parse_quota(&item)?)),
        })
    }

    async fn take_back(&self, set: &str, isp: Isp, lease: &Lease, unused: u64, now: Now) -> Result<bool, PortError> {
        let refund = lease.refund(unused, now);
        // Without randomness, a repeated return is taken for a new one.
        let this = getrandom::u64().map_or_else(|_| String::new(), |random| format!("{random:016x}"));
        let operation = "taking a lease back";
        let mut done = self.update(operation, set, isp, taking_back(lease, refund, &this)).await?;
        if let (Updated::Not(item), MarkRefund::ByIfAt(..) | MarkRefund::ByIfUntil(..)) = (&done, refund.mark)
            && item.contains_key(&lease_attribute(lease.id))
        {
            // Perhaps others were scheduled since.
            let refund = Refund { mark: MarkRefund::Nothing, ..refund };
            done = self.update(operation, set, isp, taking_back(lease, refund, &this)).await?;
        }
        Ok(match done {
            Updated::To(_) => true,
            Updated::Not(item) => !this.is_empty() && Reader(&item).text(RETURNED) == Ok(this.as_str()),
        })
    }
}

/// Takes back a lease. `this` names the return.
fn taking_back(lease: &Lease, refund: Refund, this: &str) -> Update {
    let mut update = Update::default();
    let name = lease_attribute(lease.id);
    update.only_if("day", "=", number(lease.day));
    // The name holds all of the lease: an invented or changed one gives nothing back.
    update.only_if(&name, "=", lease_value(lease, lease.day));
    update.remove(&name);
    update.set(RETURNED, text(this));
    for (counter, mails) in [("bulk", refund.bulk), ("critical", refund.critical)] {
        if mails > 0 {
            update.add(counter, -i128::from(mails));
        }
    }
    let by = match refund.mark {
        MarkRefund::ByIfUntil(by, time) => {
            update.only_if("mark", "<=", number(time.0));
            by
        }
        MarkRefund::ByIfAt(by, at) => {
            update.only_if("mark", "=", number(at.0));
            by
        }
        MarkRefund::Nothing => 0,
    };
    if by != 0 {
        update.add("mark", -i128::from(by));
    }
    update
}
