INSERT INTO inbox (consumer, event_key, event_id)
SELECT :consumer, UNHEX(listed.k), listed.id
FROM JSON_TABLE(:events, '$[*]' COLUMNS (
  k VARCHAR(32) CHARACTER SET utf8mb4 PATH '$[0]',
  id VARCHAR(256) CHARACTER SET utf8mb4 PATH '$[1]'
)) AS listed
