INSERT INTO tidings_alert (watcher, kind, name, body) VALUES (:watcher, :kind, :name, :body)
