"""Find the options that suit an application, by driving it: `rocket tune`.

`target` runs the application in a process of its own; `trial` drives it and reads its figures; `knee`, `limits`,
`candidates` and `verdict` are arithmetic on them, without clocks or processes; `session` spends the budget;
`report` and `picture` say what came of it.
"""
