-- Each row: id, attempts, rounds, deaths or null for as it is, history, due in or null for held, letter or null for as it is, event that the row must have.
UPDATE (
  SELECT listed.* FROM JSON_TABLE(:rows, '$[*]' COLUMNS (
    id BIGINT PATH '$[0]', attempts BIGINT PATH '$[1]', rounds BIGINT PATH '$[2]', deaths BIGINT PATH '$[3]',
    history MEDIUMTEXT CHARACTER SET utf8mb4 PATH '$[4]', due_in BIGINT PATH '$[5]', letter VARCHAR(256) CHARACTER SET utf8mb4 PATH '$[6]',
    event CHAR(32) CHARACTER SET ascii PATH '$[7]'
  )) AS listed
) AS n STRAIGHT_JOIN tidings_parked AS p ON p.id = n.id
SET p.attempts = n.attempts, p.rounds = n.rounds, p.deaths = COALESCE(n.deaths, p.deaths), p.history = n.history,
  p.due_us = {now} + n.due_in, p.letter = COALESCE(n.letter, p.letter)
WHERE p.consumer = :consumer AND p.event_key = n.event
