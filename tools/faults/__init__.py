"""Faults on purpose: every command under kills, full disks, damaged files, odd values and company.

`library` and `interpose.c` count file-system calls and fail one of them; `server` runs commands in forked processes.
`scenarios` are the commands and their inputs. Each other module is one part of the session: `calls`, `damage`,
`values`, `pairs`, `hostile` and `kills`. `results` stores results and `report` writes the table.
"""
