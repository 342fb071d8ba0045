-- What watchers keep: alerts that are not over, messages on their way, facts that were counted.
CREATE TABLE IF NOT EXISTS tidings_alert (
  watcher text NOT NULL,
  -- alert, message, fact, channel
  kind    text NOT NULL,
  name    text NOT NULL,
  body    text NOT NULL,
  PRIMARY KEY (watcher, kind, name)
);
