-- How often groups try an event at most, in place and later, as their instances told last.
CREATE TABLE IF NOT EXISTS tidings_policy (
  consumer     text   NOT NULL PRIMARY KEY,
  attempts_max bigint NOT NULL
);
