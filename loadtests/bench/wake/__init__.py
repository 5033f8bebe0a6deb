"""The benchmark behind what Wakeful is for: functions that sleep at zero, wake in a tenth of a second, share, move and scale.

Each section starts a server of its own as a user would, in a state folder of its own, and takes it down; clients are kept-alive
sockets on loopback. What a section cannot measure is one void number, and the rest goes on. Declarations are made of the shipped
file's functions, so that what is measured is what ships.

    calls · timing     HTTP exchanges that are kept one by one, and what Server-Timing says of a cold start
    callers            many of them at once: all together, arriving at a rate, pacing
    server             `wakeful up` with other settings, and what its catalogue tells
    declare · stages · models     the files that are served
    plan · outcome     how much to measure, and numbers from calls
    asleep · crowd · gaps         first answers, alone, in crowds, and around the moment of falling asleep
    promotion · sharing · step    between host and own deployment, in one host together, one replica to many
    thousand · room               many functions, and more of them than memory
    sections · command            in what order, on whose word
"""
