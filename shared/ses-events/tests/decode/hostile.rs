//! Documents that are meant to break a decoder.

use ses_events::{MAX_DEPTH, MAX_DOCUMENT, MAX_EVENT};

use crate::{BOUNCE, agree, decode, event_bridge, outcomes, samples, sns, sns_records, sqs};

#[test]
fn a_document_cut_off_anywhere_means_the_same_to_both() {
    let pretty =
        serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(samples::DELIVERY_DELAY).unwrap())
            .unwrap();
    let wrapped = [sns(BOUNCE), sqs(&[samples::SEND]), sns_records(&[BOUNCE]), event_bridge(BOUNCE), pretty];
    for document in wrapped.iter().map(String::as_str).chain(samples::ALL.iter().copied()) {
        for length in 0..document.len() {
            agree(&document.as_bytes()[..length]);
        }
    }
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth), "]".repeat(depth));
        BOUNCE.replacen("{", &format!("{{\"x\":{open}{close},"), 1)
    };
    assert!(outcomes(nested(60).as_bytes()).starts_with("event"));
    assert!(outcomes(nested(MAX_DEPTH - 1).as_bytes()).starts_with("event"));
    for depth in 60..70 {
        assert!(outcomes(nested(depth).as_bytes()).starts_with("event"));
    }
    assert_eq!(outcomes(nested(MAX_DEPTH).as_bytes()), "rejected: nested deeper than 127 levels\n");
    for brackets in ["[", "{\"a\":", "[{\"eventType\":"] {
        assert_eq!(outcomes(brackets.repeat(200_000).as_bytes()), "rejected: nested deeper than 127 levels\n");
    }
}

#[test]
fn size_has_a_limit() {
    let filled = |size: usize| BOUNCE.replacen("{", &format!("{{\"x\":\"{}\",", "x".repeat(size)), 1);
    let fits = filled(MAX_EVENT - BOUNCE.len() - 7);
    assert_eq!(fits.len(), MAX_EVENT);
    assert!(outcomes(fits.as_bytes()).starts_with("event"));
    assert_eq!(outcomes(filled(MAX_EVENT).as_bytes()), "rejected: 1050348 bytes where 1048576 are allowed\n");
    let batch = sqs(&[&fits, &filled(MAX_EVENT), BOUNCE, &sns(&"\"".repeat(MAX_EVENT / 2)), &fits]);
    insta::assert_snapshot!(outcomes(batch.as_bytes()), @"
    event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365603700
    rejected: 1050348 bytes where 1048576 are allowed
    event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365603700
    rejected: 1048667 bytes where 1048576 are allowed
    event: Bounce of 0102019f00000012-5b1c7d2e-0012-4c3a-9f10-7a64be0d0012-000000 at 1789365601640 published at 1789365603700
    ");
    let string = format!("\"{}\"", "x".repeat(10_000_000));
    assert_eq!(outcomes(string.as_bytes()), "rejected: 10000002 bytes where 8388608 are allowed\n");
    let spaces = " ".repeat(MAX_DOCUMENT);
    assert_eq!(outcomes(spaces.as_bytes()), "rejected: not JSON at byte 8388607\n");
}

#[test]
fn envelopes_have_a_limit() {
    let wrapped = |times: usize| (0..times).fold(samples::DELIVERY_DELAY.to_owned(), |inner, _| sns(&inner));
    assert!(outcomes(wrapped(6).as_bytes()).starts_with("event"));
    assert_eq!(outcomes(wrapped(7).as_bytes()), "rejected: wrapped in more than 6 envelopes\n");
}

#[test]
fn a_record_of_broken_lines_is_given_up_after_a_few_walks_over_it() {
    // Each line opens lists that end only at the limit of nesting, 127 lines later.
    let lines = 20_000;
    let broken = crate::carriers::base64("[\n".repeat(lines));
    let record = format!("{{\"Records\":[{{\"kinesis\":{{\"data\":\"{broken}\"}}}},{{\"body\":{:?}}}]}}", "{}");
    let report = outcomes(record.as_bytes());
    let rejections = report.lines().count();
    assert!((2..lines / 10).contains(&rejections), "{rejections}");
    assert!(report.ends_with("rejected: no event in the document\n"));
}

#[test]
fn the_deepest_nest_of_all_limits_fits_on_the_stack() {
    let (open, close) = ("[".repeat(120), "]".repeat(120));
    let deep = BOUNCE.replacen('{', &format!("{{\"x\":{open}{close},"), 1);
    let nested = (0..6).fold(deep, |inner, _| format!("[{}]", sns(&inner)));
    assert!(outcomes(format!("[[{nested}]]").as_bytes()).starts_with("event"));
    assert_eq!(outcomes(format!("[[[{nested}]]]").as_bytes()), "rejected: wrapped in more than 6 envelopes\n");
}

#[test]
fn many_tags_are_all_read_and_of_duplicates_the_last() {
    for (count, times) in [(50, 1), (50_000, 1), (20_000, 2)] {
        let tags: String = (0..count).map(|n| format!("\"t{n}\":[\"v\"],")).collect();
        let event = BOUNCE.replacen("\"tags\":{", &format!("\"tags\":{{{}", tags.repeat(times)), 1);
        decode(event.as_bytes(), |decoded| {
            let ses_events::Decoded::Event(event) = decoded else { panic!("{decoded:?}") };
            assert_eq!(event.mail.tags.iter().count(), count + 8);
            assert_eq!(event.mail.tags.first("t49").as_deref(), Some("v"));
        });
    }
}
