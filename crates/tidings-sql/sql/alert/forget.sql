DELETE FROM tidings_alert WHERE watcher = :watcher AND kind = :kind AND name = :name
