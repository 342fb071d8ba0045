SELECT LOWER(HEX(i.event_key))
FROM JSON_TABLE(:events, '$[*]' COLUMNS (
  k VARCHAR(32) CHARACTER SET utf8mb4 PATH '$[0]'
)) AS listed
STRAIGHT_JOIN inbox AS i ON i.event_key = UNHEX(listed.k) AND i.consumer = :consumer
FOR UPDATE
