SELECT fingerprint, consumer, event_type, COUNT(*), MIN(first_died_us), MAX(died_us), MAX(redrives), MAX(number)
FROM tidings_dead_letter
WHERE 1 = 1{where}
GROUP BY fingerprint, consumer, event_type
ORDER BY MAX(died_us) DESC, MAX(number) DESC
LIMIT :limit
