//! Dates as templates of conversations write them, by the `chrono` crate.

use std::fmt::Display;

use chrono::format::{Item, StrftimeItems};
use chrono::{DateTime, Local, TimeZone};

/// The time now, here, as `strftime` writes it; `None` if the format has what is not known.
pub(crate) fn now(format: &str) -> Option<String> {
    written(format, &Local::now())
}

fn written<T: TimeZone<Offset: Display>>(format: &str, time: &DateTime<T>) -> Option<String> {
    let items: Vec<Item<'_>> = StrftimeItems::new(format).collect();
    (!items.contains(&Item::Error)).then(|| time.format_with_items(items.iter()).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_written_as_python_does() {
        // datetime.fromtimestamp(seconds, UTC).strftime(format)
        for (seconds, expected) in [
            (0, "Thu Thursday 01 Jan January 1970-01-01 00:00:00 %"),
            (951_782_399, "Mon Monday 28 Feb February 2000-02-28 23:59:59 %"),
            (951_868_800, "Wed Wednesday 01 Mar March 2000-03-01 00:00:00 %"),
            (1_735_689_599, "Tue Tuesday 31 Dec December 2024-12-31 23:59:59 %"),
            (4_107_542_400, "Mon Monday 01 Mar March 2100-03-01 00:00:00 %"),
        ] {
            let time = DateTime::from_timestamp(seconds, 0).expect("a time of this era");
            assert_eq!(written("%a %A %d %b %B %Y-%m-%d %H:%M:%S %%", &time).as_deref(), Some(expected));
        }
        for unknown in ["%J", "%"] {
            assert_eq!(written(unknown, &DateTime::UNIX_EPOCH), None);
        }
    }
}
