-- Which replica has which sequence: `lua-load sequence_routing.lua FILE` in HAProxy's configuration.
--
-- Theory of operation. Each change of replicas is a new HAProxy process, while the one before still
-- answers what it has. All of them share what they know in files: a process appends a line for each
-- start that was answered, before its client gets the answer, and reads what others have appended
-- before it sends a call of a sequence on. So the next call finds its replica through whichever
-- process it comes; nothing is handed over, and HAProxy's own end loses nothing.
--
-- A line is `PATH DIGEST SERVER BEGAN`: the function, its sequence, the replica, the word of the
-- start; or `PATH DIGEST ended`. A file takes MOST bytes, about 50,000 lines; then the next one
-- begins. Two are kept. A sequence of the older one that is called gets a line in the newer, and when
-- the older one is deleted, so do those that have not ended: a client that starts sequences and ends
-- them, or one again and again, pushes out no other. How many do not end is bounded by replicas. Of
-- more than fill a quarter of a file the last used are known.
-- FILE itself has the number of the newest file as its last line.
--
-- Mutable state: `older` and `newer`, what was read of the two files. No call is interrupted for
-- another while it reads (`tune.lua.forced-yield`).

local FILE = ...
local MOST = 8 * 1024 * 1024

local function start_file(number)
    return {
        name = FILE .. "." .. number,
        number = number,
        offset = 0,
        places = {},
        order = {}, -- the keys of its lines
        ended = {},
    }
end

-- Reads the lines that are new in a file; false where it does not exist.
local function read_file(file)
    local handle = io.open(file.name)
    if not handle then
        return false
    end
    handle:seek("set", file.offset)
    for line in handle:lines("L") do
        if line:sub(-1) ~= "\n" then -- it is being written
            break
        end
        local key, place = line:match("^(%S+ %S+) (%S+ %d+)\n$")
        if key then
            file.places[key], file.ended[key] = place, nil
            table.insert(file.order, key)
        else
            key = line:match("^(%S+ %S+) ended\n$")
            if key then
                file.ended[key] = true
            end
        end
        file.offset = file.offset + #line
    end
    handle:close()
    return true
end

local number = 1
local numbers = io.open(FILE)
if numbers then
    for line in numbers:lines() do
        number = tonumber(line) or number
    end
    numbers:close()
end
local older, newer = start_file(number - 1), start_file(number)

-- Reads what all processes have written. The older file may still get a line, of a process that had
-- not seen the newer one.
local function read_all()
    read_file(older)
    read_file(newer)
    local following = start_file(newer.number + 1)
    while read_file(following) do
        read_file(newer)
        older, newer, following = newer, following, start_file(following.number + 1)
    end
end

local function append(name, lines)
    local handle, failure = io.open(name, "a")
    if handle then
        handle:setvbuf("full", #lines + 1)
        handle:write(lines)
        handle:close() -- writes them in one piece
    else
        core.log(core.err, "sequences are lost at the next change of replicas: " .. failure)
    end
end

-- The lines of sequences that only the older file has, and that have not ended; of more than fill
-- a quarter of a file the last ones.
local function living_lines()
    local lines, size, seen = {}, 0, {}
    for index = #older.order, 1, -1 do
        local key = older.order[index]
        local has_ended = older.ended[key] or newer.ended[key]
        if not (seen[key] or has_ended or newer.places[key]) then
            local line = key .. " " .. older.places[key] .. "\n"
            size = size + #line
            if size > MOST / 4 then
                break
            end
            table.insert(lines, line)
        end
        seen[key] = true
    end
    local oldest_first = {}
    for index = #lines, 1, -1 do
        table.insert(oldest_first, lines[index])
    end
    return table.concat(oldest_first)
end

local function store(key, place)
    local file = newer
    if file.offset >= MOST then
        file = start_file(newer.number + 1)
        append(FILE, file.number .. "\n")
        append(file.name, living_lines())
        os.remove(older.name)
    end
    append(file.name, key .. " " .. place .. "\n")
    newer.places[key] = place
end

read_all()

-- The paths of one function, such as PREFIX/infer, are one.
local function function_path(path)
    for _, tail in ipairs({"/infer", "/generate", "/generate_stream", "/versions/1"}) do
        if path:sub(-#tail) == tail then
            path = path:sub(1, -#tail - 1)
        end
    end
    return path
end

core.register_action("wakeful_find_sequence", {"http-req"}, function(txn)
    local key = function_path(txn.f:path()) .. " " .. txn:get_var("txn.wakeful_sequence")
    txn:set_var("txn.wakeful_key", key)
    read_all()
    local place = newer.places[key]
    if not place and older.places[key] then
        place = older.places[key]
        store(key, place)
    end
    if place then
        local server, began = place:match("(%S+) (%d+)")
        txn:set_var("txn.wakeful_server", server)
        txn:set_var("txn.wakeful_began", began)
    end
end)

core.register_action("wakeful_store_sequence", {"http-res"}, function(txn)
    local server = txn.sf:res_hdr("x-wakeful-replica") -- behind Serve's proxy
    if server == "" then
        server = txn.f:srv_name()
    end
    read_all()
    store(txn:get_var("txn.wakeful_key"), server .. " " .. txn:get_var("txn.wakeful_start"))
end)

core.register_action("wakeful_end_sequence", {"http-res"}, function(txn)
    local key = txn:get_var("txn.wakeful_key")
    if newer.places[key] or older.places[key] then
        append(newer.name, key .. " ended\n")
    end
end)
