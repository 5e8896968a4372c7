//! Dates as templates of conversations write them.

use std::time::{SystemTime, UNIX_EPOCH};

const MONTHS: [&str; 12] =
    ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];

/// The time now, in UTC, as `strftime` writes it; `None` if the format has what is not known here.
pub(crate) fn now(format: &str) -> Option<String> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    written(format, since.as_secs())
}

fn written(format: &str, seconds: u64) -> Option<String> {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let name = |names: &[&str], place: u64| names[usize::try_from(place).expect("a small number")].to_owned();
    let mut out = String::new();
    let mut rest = format.chars();
    while let Some(next) = rest.next() {
        if next != '%' {
            out.push(next);
            continue;
        }
        out.push_str(&match rest.next()? {
            'Y' => year.to_string(),
            'm' => format!("{month:02}"),
            'd' => format!("{day:02}"),
            'B' => name(&MONTHS, month - 1),
            'b' => name(&MONTHS, month - 1)[..3].to_owned(),
            'A' => name(&DAYS, days % 7),
            'a' => name(&DAYS, days % 7)[..3].to_owned(),
            'H' => format!("{:02}", second / 3600),
            'M' => format!("{:02}", second / 60 % 60),
            'S' => format!("{:02}", second % 60),
            '%' => "%".to_owned(),
            _ => return None,
        });
    }
    Some(out)
}

/// Year, month and day so many days after 1970 began: Hinnant (2014), "chrono-compatible low-level date algorithms". Years begin in March
/// there, so that the leap day is their last.
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (year, month) = if month < 10 { (year, month + 3) } else { (year + 1, month - 9) };
    (era * 400 + year, month, date)
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
            assert_eq!(written("%a %A %d %b %B %Y-%m-%d %H:%M:%S %%", seconds).as_deref(), Some(expected));
        }
        assert_eq!(written("%q", 0), None);
        assert_eq!(written("%", 0), None);
    }
}
