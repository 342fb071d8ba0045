SELECT kind, name, body FROM tidings_alert WHERE watcher = :watcher ORDER BY kind, name
