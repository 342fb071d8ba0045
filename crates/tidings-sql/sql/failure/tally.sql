SELECT consumer, status, redrives, COUNT(*), MIN(died_us), MAX(died_us)
FROM tidings_dead_letter
WHERE 1 = 1{where}
GROUP BY consumer, status, redrives
ORDER BY consumer, status, redrives
