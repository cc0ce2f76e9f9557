# SPDX-License-Identifier: Apache-2.0
# SPDX-FileCopyrightText: The Holdfast authors
#
# Completion of holdfast's commands, options and volumes for bash. It reads the configuration for the names of
# volumes and asks no controller, so that a key press never waits.

_holdfast_volumes() {
    local file=$1
    [ -r "$file" ] && sed -n 's/^[[:blank:]]*\[[[:blank:]]*volume[[:blank:]]\{1,\}\([A-Za-z0-9._-]*\)[[:blank:]]*\].*/\1/p' "$file"
}

_holdfast() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]}
    local command=${COMP_WORDS[1]} config=/etc/holdfast/holdfast.conf words="" i names=0
    COMPREPLY=()

    case $previous in
    --config | --socket)
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    --controller)
        mapfile -t COMPREPLY < <(compgen -W "a b" -- "$current")
        return
        ;;
    --timeout) return ;;
    esac
    if [ "$COMP_CWORD" = 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "run check status volume group stop accept-loss demo --help --version" -- "$current")
        return
    fi
    # The words before this one: which configuration, and how many names.
    for ((i = 2; i < COMP_CWORD; i++)); do
        case ${COMP_WORDS[i]} in
        --config) config=${COMP_WORDS[++i]} ;;
        --controller | --socket | --timeout) ((i++)) ;;
        -*) ;;
        *) ((names++)) ;;
        esac
    done
    case $command in
    run) words="--config --controller --help" ;;
    check)
        mapfile -t COMPREPLY < <(compgen -f -W "--help" -- "$current")
        return
        ;;
    status) words="--config --controller --socket --timeout --json --help" ;;
    volume)
        case $names in
        0) words="move" ;;
        1) words="$(_holdfast_volumes "$config") --config --controller --socket --timeout --help" ;;
        2) words="a b --config --controller --socket --timeout --help" ;;
        *) words="--config --controller --socket --timeout --help" ;;
        esac
        ;;
    group)
        case $names in
        0) words="suspend resume" ;;
        *) words="--config --controller --socket --timeout --help" ;;
        esac
        ;;
    demo) words="--remote --postgres --keep --help" ;;
    stop) words="--config --controller --socket --timeout --help" ;;
    accept-loss) words="--config --controller --socket --timeout --peer-is-dead --help" ;;
    esac
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}

complete -o filenames -F _holdfast holdfast
