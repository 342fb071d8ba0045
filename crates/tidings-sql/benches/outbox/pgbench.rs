//! The owner's two statements as pgbench runs them: the limit of the server, with a client that throws the rows away.

use crate::measure::Outcome;
use crate::orders::BATCH_ROWS;
use std::path::Path;
use std::process::Command;

/// Rows are read by their id and deleted by their id, a batch at a time, on one connection.
const SCRIPT: &str = "\
SELECT id, event_id, event_type, aggregate_id, destination, payload, payload_bytes, headers, created_at FROM outbox ORDER BY id LIMIT 500;
DELETE FROM outbox WHERE id = ANY (ARRAY(SELECT id FROM outbox ORDER BY id LIMIT 500));
";

/// Deletes so many rows and answers how many in a second.
pub(crate) fn owner_delete(url: &str, rows: usize) -> Outcome<f64> {
    let script = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-owner-delete.sql");
    std::fs::write(&script, SCRIPT)?;
    let output = Command::new("pgbench")
        .args(["--no-vacuum", "--protocol", "prepared", "--client", "1"])
        .args(["--transactions", &(rows / BATCH_ROWS).to_string()])
        .arg("--file")
        .arg(&script)
        .arg(url)
        .output()
        .map_err(|cause| format!("pgbench, which PostgreSQL brings, does not start: {cause}"))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let line = said.lines().find_map(|line| line.strip_prefix("tps = "));
    let rate = line.and_then(|line| line.split_whitespace().next());
    match rate {
        Some(rate) if output.status.success() => Ok(rate.parse::<f64>()? * BATCH_ROWS as f64),
        _ => Err(format!(
            "pgbench failed: {said}{}",
            String::from_utf8_lossy(&output.stderr)
        )
        .into()),
    }
}
