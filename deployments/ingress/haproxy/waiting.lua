-- Holds a call while no process of the run serves: `lua-load waiting.lua PROCESSES SECONDS` in
-- HAProxy's configuration. A call comes here when the last process has died, with it or before it;
-- the next one is started at once, and takes it.

local processes, seconds = ...
local POLL_MS = 20

local function is_any_up(txn)
    for number = 1, tonumber(processes) do
        local is_up = txn.f:srv_is_up("workers/w" .. number)
        if is_up == 1 or is_up == true then -- by HAProxy's version
            return true
        end
    end
    return false
end

core.register_action("wakeful_wait", {"http-req"}, function(txn)
    local until_ms = tonumber(seconds) * 1000
    while until_ms > 0 and not is_any_up(txn) do
        core.msleep(POLL_MS)
        until_ms = until_ms - POLL_MS
    end
end)
