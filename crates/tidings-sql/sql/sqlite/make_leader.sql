-- Which instance of a group picks up what is due, and until when unless it says so again.
CREATE TABLE IF NOT EXISTS tidings_leader (
  consumer TEXT    NOT NULL PRIMARY KEY,
  owner    TEXT    NOT NULL,
  -- Grows with each change of the owner.
  epoch    INTEGER NOT NULL,
  until_us INTEGER NOT NULL
);
