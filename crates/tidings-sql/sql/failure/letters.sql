SELECT number, id, consumer, lane, envelope, problem, log_position, handler, code_version, cause, reasons, fingerprint, attempts, rounds, deaths, history,
  holds, status, redrives, first_failed_us, first_died_us, died_us, changed_us, edited, decided_by, decided_why
FROM tidings_dead_letter
WHERE number > :after{where}
ORDER BY number
LIMIT :limit
