-- What watchers keep: alerts that are not over, messages on their way, facts that were counted.
CREATE TABLE IF NOT EXISTS tidings_alert (
  watcher TEXT NOT NULL,
  -- alert, message, fact, channel
  kind    TEXT NOT NULL,
  name    TEXT NOT NULL,
  body    TEXT NOT NULL,
  PRIMARY KEY (watcher, kind, name)
) WITHOUT ROWID;
