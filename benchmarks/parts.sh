# Sourced by scripts of several long parts. `part NAME SECONDS COMMAND...` runs one of those in `parts` on its own clock
# and leaves its log in `out`; what is finished is not run again, and what fails sets `failed`.
part() { # name, seconds, command
    local name=$1 seconds=$2 started=$SECONDS
    shift 2
    case " ${parts[*]} " in *" $name "*) ;; *) return ;; esac
    if [ -f "$out/$name.done" ]; then
        echo "$name: done before"
        return
    fi
    echo "$name: at most $seconds s"
    if timeout "$seconds" "$@" >"$out/$name.log" 2>&1; then
        touch "$out/$name.done"
        echo "$name: done after $((SECONDS - started)) s"
    else
        echo "$name: failed ($?) after $((SECONDS - started)) s"
        failed=1
    fi
    tail -n 6 "$out/$name.log"
}
