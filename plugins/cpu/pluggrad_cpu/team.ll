; The native thread team (Linux): what a caller and its workers do between kernels. threads.py holds the Python side
; and fills in what differs between machines: {{futex}}, the system call's number, and {{pause}}, a spin-wait hint.
;
; The commands of a wave share one counter of chunks, so that whoever is done with one command goes on with the next.
; A shared wave is offered, not assigned. The caller opens the gate and takes chunks itself; a worker that is awake
; enters, takes chunks from the same counter, and leaves. Once the chunks are gone the caller shuts the gate and waits
; only for those inside, so a worker that slept through a wave costs nothing. A worker reads the wave only while it is
; inside, and the caller returns only when nobody is: finished lists can be freed.
;
; Who waits spins before it sleeps. While a list is under way, for {{held}} ns: between its waves nobody is to be
; woken, which takes longer than most waves do. After it, for an eighth of what the list took, within {{idle}} and
; {{linger}} ns: where the same list comes again and again, its caller needs that long between two, since what it
; touches in Python has left the caches meanwhile.
;
; Where other processes want the cores, short waves lose by help: a worker that is taken off its core inside one
; holds the caller up for a time slice of several ms, and spinning costs the caller its own. So each worker looks for
; signs of that: a spin loop that stood still, a call that reached it late, a caller that had to sleep until it came
; back. It then rests, twice as long each time, unless the wave at hand is long enough to be worth its while.

;                0 bell (futex; rises with each shared wave), 1 workers asleep, 2 how many ns who waits spins
;                4 gate (futex): OPEN plus the number of workers inside, 5 the caller sleeps on it
;                7 next chunk
;                9 the wave at hand, 10 list, 11 its position, 12 phase of the wave, 13 cancel, 14 stop (futex of those who rest)
;                15 how often sleepers were called, 16 when they were, the last 16 times, 17 when the list began
; Fields that different threads write lie two cache lines apart: some CPUs fetch lines in pairs.
%Team = type { i32, i32, i32, [116 x i8], i32, i32, [120 x i8], i64, [120 x i8],
               ptr, ptr, i64, i32, i32, i32, i32, [16 x i64], i64 }
%Time = type { i64, i64 }
; What a worker remembers: 0 how long it rested last, 1 until when, 2 how often it had lost its core by then,
;                         3 since when it has been in a wave that it came late for (1: it is on its way, 0: in none)
%Habit = type { i64, i64, i64, i64 }

@nap = internal constant %Time { i64 0, i64 20000000 }         ; 20 ms: the longest sleep of a caller

declare i64 @syscall(i64, ...)
declare i32 @clock_gettime(i32, ptr)
declare i32 @getrusage(i32, ptr)
declare i64 @llvm.smax.i64(i64, i64)
declare i64 @llvm.smin.i64(i64, i64)

define internal void @pause() {
  call void asm sideeffect "{{pause}}", ""()
  ret void
}

define internal i64 @now() {
  %time = alloca %Time
  %status = call i32 @clock_gettime(i32 1, ptr %time)
  %seconds = load i64, ptr %time
  %rest.at = getelementptr inbounds %Time, ptr %time, i64 0, i32 1
  %rest = load i64, ptr %rest.at
  %scaled = mul nsw i64 %seconds, 1000000000
  %nanoseconds = add nsw i64 %scaled, %rest
  ret i64 %nanoseconds
}

; Sleep while the word holds `value`; a null timeout is forever.
define internal void @sleep(ptr %word, i32 %value, ptr %timeout) {
  %status = call i64 (i64, ...) @syscall(i64 {{futex}}, ptr %word, i32 128, i32 %value, ptr %timeout, ptr null, i32 0)
  ret void
}

define internal void @wake(ptr %word, i32 %count) {
  %status = call i64 (i64, ...) @syscall(i64 {{futex}}, ptr %word, i32 129, i32 %count, ptr null, ptr null, i32 0)
  ret void
}

; How often the system took this thread off its core for another.
define internal i64 @losses() {
  %usage = alloca [18 x i64]
  %status = call i32 @getrusage(i32 1, ptr %usage)
  %losses.at = getelementptr inbounds [18 x i64], ptr %usage, i64 0, i64 17
  %losses = load i64, ptr %losses.at
  ret i64 %losses
}

; Keep away: twice as long as last time, unless it has been in peace for as long as that.
define internal void @rest(ptr %team, ptr %habit) {
  %until.at = getelementptr inbounds %Habit, ptr %habit, i64 0, i32 1
  %losses.at = getelementptr inbounds %Habit, ptr %habit, i64 0, i32 2
  %stop.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 14
  %before = load i64, ptr %habit
  %until = load i64, ptr %until.at
  %begin = call i64 @now()
  %since = sub nsw i64 %begin, %until
  %least = call i64 @llvm.smax.i64(i64 %before, i64 {{shortest}})
  %again = icmp slt i64 %since, %least
  %double = shl nuw nsw i64 %before, 1
  %grown = call i64 @llvm.smin.i64(i64 %double, i64 {{longest}})
  %length = select i1 %again, i64 %grown, i64 {{shortest}}
  store i64 %length, ptr %habit
  %timeout = alloca %Time
  %rest.at = getelementptr inbounds %Time, ptr %timeout, i64 0, i32 1
  store i64 0, ptr %timeout
  store i64 %length, ptr %rest.at
  call void @sleep(ptr %stop.at, i32 0, ptr %timeout)
  %end = call i64 @now()
  store i64 %end, ptr %until.at
  %losses = call i64 @losses()
  store i64 %losses, ptr %losses.at
  ret void
}

; Run chunks of the wave at hand. True: none are left. False: the deadline (0: none) has passed.
define internal i1 @take(ptr %team, i64 %deadline) {
entry:
  %next.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 7
  %wave.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 9
  %wave = load ptr, ptr %wave.at
  %records = load ptr, ptr %wave
  %count.at = getelementptr inbounds %Wave, ptr %wave, i64 0, i32 1
  %count = load i64, ptr %count.at
  %chunks.at = getelementptr inbounds %Wave, ptr %wave, i64 0, i32 2
  %chunks = load i64, ptr %chunks.at
  %cancel.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 13
  %timed = icmp ne i64 %deadline, 0
  br label %claim

claim:
  %from = phi i64 [ 0, %entry ], [ %record, %work ], [ %record, %check ]
  %cancel = load atomic i32, ptr %cancel.at monotonic, align 4
  %cancelled = icmp ne i32 %cancel, 0
  br i1 %cancelled, label %gone, label %draw

draw:
  %chunk = atomicrmw add ptr %next.at, i64 1 monotonic
  %left = icmp slt i64 %chunk, %chunks
  br i1 %left, label %find, label %gone

find:                                                    ; the last record that begins at or before this chunk
  %record = phi i64 [ %from, %draw ], [ %after, %behind ]
  %after = add nuw nsw i64 %record, 1
  %more = icmp slt i64 %after, %count
  br i1 %more, label %behind, label %work

behind:
  %after.first.at = getelementptr inbounds %Record, ptr %records, i64 %after, i32 5
  %after.first = load i64, ptr %after.first.at
  %begun = icmp sle i64 %after.first, %chunk
  br i1 %begun, label %find, label %work

work:
  %kernel.at = getelementptr inbounds %Record, ptr %records, i64 %record, i32 0
  %kernel = load ptr, ptr %kernel.at
  %args.at = getelementptr inbounds %Record, ptr %records, i64 %record, i32 1
  %args = load ptr, ptr %args.at
  %values.at = getelementptr inbounds %Record, ptr %records, i64 %record, i32 2
  %values = load ptr, ptr %values.at
  %tasks.at = getelementptr inbounds %Record, ptr %records, i64 %record, i32 3
  %tasks = load i64, ptr %tasks.at
  %size.at = getelementptr inbounds %Record, ptr %records, i64 %record, i32 4
  %size = load i64, ptr %size.at
  %first.at = getelementptr inbounds %Record, ptr %records, i64 %record, i32 5
  %first = load i64, ptr %first.at
  %coarse.at = getelementptr inbounds %Record, ptr %records, i64 %record, i32 6
  %coarse = load i64, ptr %coarse.at
  %fine.at = getelementptr inbounds %Record, ptr %records, i64 %record, i32 7
  %fine = load i64, ptr %fine.at
  %number = sub nsw i64 %chunk, %first
  %is.coarse = icmp slt i64 %number, %coarse
  %before = call i64 @llvm.smin.i64(i64 %number, i64 %coarse)
  %before.fine = sub nsw i64 %number, %before
  %coarse.tasks = mul nsw i64 %before, %size
  %fine.tasks = mul nsw i64 %before.fine, %fine
  %lo = add nsw i64 %coarse.tasks, %fine.tasks
  %length = select i1 %is.coarse, i64 %size, i64 %fine
  %end = add nsw i64 %lo, %length
  %hi = call i64 @llvm.smin.i64(i64 %end, i64 %tasks)
  call void %kernel(ptr %args, ptr %values, i64 %lo, i64 %hi)
  br i1 %timed, label %check, label %claim

check:
  %now = call i64 @now()
  %late = icmp sgt i64 %now, %deadline
  br i1 %late, label %pass, label %claim

gone:
  ret i1 true

pass:
  ret i1 false
}

; A worker's life: spin on the bell for a while, sleep on it, enter an open gate, work, leave. Ends after `stop`.
define void @serve(ptr %team) {
entry:
  %sleepers.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 1
  %patience.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 2
  %gate.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 4
  %waiting.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 5
  %stop.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 14
  %calls.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 15
  %habit = alloca %Habit
  store %Habit { i64 {{shortest}}, i64 0, i64 0, i64 0 }, ptr %habit
  %losses.at = getelementptr inbounds %Habit, ptr %habit, i64 0, i32 2
  %late.at = getelementptr inbounds %Habit, ptr %habit, i64 0, i32 3
  br label %idle

idle:
  %seen = phi i32 [ 0, %entry ], [ %bell, %listen ], [ %bell.rung, %enter ], [ %bell.rung, %timed ], [ %bell.rung, %measure ], [ %bell.rung, %rest.late ]
  %since = call i64 @now()
  br label %spin

spin:
  %turn = phi i32 [ 0, %idle ], [ %turn.next, %spin.on ], [ %turn.next, %patient ]
  %before = phi i64 [ %since, %idle ], [ %before, %spin.on ], [ %now, %patient ]
  %bell.spun = load atomic i32, ptr %team acquire, align 4
  %rung.spinning = icmp ne i32 %bell.spun, %seen
  br i1 %rung.spinning, label %rung, label %spin.on

spin.on:
  call void @pause()
  %turn.next = add nuw nsw i32 %turn, 1
  %round = and i32 %turn.next, 63
  %in.round = icmp ne i32 %round, 0
  br i1 %in.round, label %spin, label %patience

patience:
  %now = call i64 @now()
  %gap = sub nsw i64 %now, %before
  %lost = icmp sgt i64 %gap, {{away}}
  br i1 %lost, label %rest.now, label %patient

rest.now:
  %gate.seen = load atomic i32, ptr %gate.at monotonic, align 4
  %gate.bit = and i32 %gate.seen, 65536
  %closed = icmp eq i32 %gate.bit, 0
  br i1 %closed, label %rest.go, label %try.late

try.late:
  store i64 1, ptr %late.at
  br label %listen

rest.go:
  call void @rest(ptr %team, ptr %habit)
  br label %listen

patient:
  %allowed = load atomic i32, ptr %patience.at monotonic, align 4
  %limit = zext i32 %allowed to i64
  %spent = sub nsw i64 %now, %since
  %staying = icmp slt i64 %spent, %limit
  br i1 %staying, label %spin, label %drowse

drowse:
  %calls = load atomic i32, ptr %calls.at monotonic, align 4
  %asleep.before = atomicrmw add ptr %sleepers.at, i32 1 seq_cst
  call void @sleep(ptr %team, i32 %seen, ptr null)
  %asleep.after = atomicrmw sub ptr %sleepers.at, i32 1 seq_cst
  %calls.now = load atomic i32, ptr %calls.at acquire, align 4
  %missed = sub i32 %calls.now, %calls
  %any = icmp ne i32 %missed, 0
  br i1 %any, label %woken, label %listen

woken:
  %first.call = add i32 %calls, 1
  %oldest = sub i32 %calls.now, 14
  %many = icmp ugt i32 %missed, 15
  %which = select i1 %many, i32 %oldest, i32 %first.call
  %place = and i32 %which, 15
  %called.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 16, i32 %place
  %called = load atomic i64, ptr %called.at monotonic, align 8
  %awake = call i64 @now()
  %latency = sub nsw i64 %awake, %called
  %slow = icmp sgt i64 %latency, {{away}}
  br i1 %slow, label %rest.now, label %listen

listen:
  %bell = load atomic i32, ptr %team acquire, align 4
  %rung.asleep = icmp ne i32 %bell, %seen
  br i1 %rung.asleep, label %rung, label %idle

rung:
  %bell.rung = phi i32 [ %bell.spun, %spin ], [ %bell, %listen ]
  %stop = load atomic i32, ptr %stop.at acquire, align 4
  %stopped = icmp ne i32 %stop, 0
  br i1 %stopped, label %end, label %knock

knock:
  %gate.first = load atomic i32, ptr %gate.at monotonic, align 4
  br label %enter

enter:
  %gate = phi i32 [ %gate.first, %knock ], [ %gate.now, %try ]
  %open.bit = and i32 %gate, 65536
  %open = icmp ne i32 %open.bit, 0
  br i1 %open, label %try, label %idle

try:
  %gate.entered = add nuw nsw i32 %gate, 1
  %swap = cmpxchg ptr %gate.at, i32 %gate, i32 %gate.entered acquire monotonic
  %gate.now = extractvalue { i32, i1 } %swap, 0
  %inside = extractvalue { i32, i1 } %swap, 1
  br i1 %inside, label %work, label %enter

work:
  %late = load i64, ptr %late.at
  %was.late = icmp ne i64 %late, 0
  br i1 %was.late, label %work.timed, label %work.on

work.timed:
  %entered = call i64 @now()
  store i64 %entered, ptr %late.at
  br label %work.on

work.on:
  %gone = call i1 @take(ptr %team, i64 0)
  br label %leave

leave:
  %gate.before = atomicrmw sub ptr %gate.at, i32 1 seq_cst
  %waiting = load atomic i32, ptr %waiting.at seq_cst, align 4
  %awaited = icmp ne i32 %waiting, 0
  br i1 %awaited, label %hurry, label %timed

timed:
  %timed.from = load i64, ptr %late.at
  %timed.any = icmp ne i64 %timed.from, 0
  br i1 %timed.any, label %measure, label %idle

measure:
  store i64 0, ptr %late.at
  %left = call i64 @now()
  %span = sub nsw i64 %left, %timed.from
  %short = icmp slt i64 %span, {{brief}}
  br i1 %short, label %rest.late, label %idle

hurry:
  %last = icmp eq i32 %gate.before, 1
  br i1 %last, label %leave.last, label %look

leave.last:
  call void @wake(ptr %gate.at, i32 1)
  br label %look

look:
  %losses.before = load i64, ptr %losses.at
  %losses = call i64 @losses()
  %taken.off = icmp ne i64 %losses, %losses.before
  br i1 %taken.off, label %rest.late, label %timed

rest.late:
  call void @rest(ptr %team, ptr %habit)
  br label %idle

end:
  ret void
}

; End every worker's `serve`.
define void @stop(ptr %team) {
  %stop.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 14
  store atomic i32 1, ptr %stop.at release, align 4
  %bell = atomicrmw add ptr %team, i32 1 seq_cst
  call void @wake(ptr %team, i32 2147483647)
  call void @wake(ptr %stop.at, i32 2147483647)
  ret void
}

; Begin a list. 0: it is done. 1: call `resume`.
define i32 @start(ptr %team, ptr %list) {
  %patience.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 2
  %list.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 10
  %position.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 11
  %phase.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 12
  %cancel.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 13
  call void @bind(ptr %list)
  store ptr %list, ptr %list.at
  store i64 0, ptr %position.at
  store i32 0, ptr %phase.at
  store i32 0, ptr %cancel.at
  %shared.at = getelementptr inbounds %List, ptr %list, i64 0, i32 10
  %shared = load i64, ptr %shared.at
  %alone = icmp eq i64 %shared, 0
  br i1 %alone, label %go, label %call

call:                                                    ; the first waves may be too short to wake anybody for
  store atomic i32 {{held}}, ptr %patience.at seq_cst, align 4
  %began.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 17
  %now = call i64 @now()
  store i64 %now, ptr %began.at
  call void @ring(ptr %team)
  br label %go

go:
  %status = call i32 @resume(ptr %team)
  ret i32 %status
}

; Tell every worker, also those asleep, that something may have begun.
define internal void @ring(ptr %team) {
  %sleepers.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 1
  %bell = atomicrmw add ptr %team, i32 1 seq_cst
  %sleepers = load atomic i32, ptr %sleepers.at seq_cst, align 4
  %any.asleep = icmp ne i32 %sleepers, 0
  br i1 %any.asleep, label %wake, label %done

wake:
  %calls.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 15
  %calls = load atomic i32, ptr %calls.at monotonic, align 4
  %call = add i32 %calls, 1
  %place = and i32 %call, 15
  %called.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 16, i32 %place
  %now = call i64 @now()
  store atomic i64 %now, ptr %called.at monotonic, align 8
  store atomic i32 %call, ptr %calls.at release, align 4
  call void @wake(ptr %team, i32 2147483647)
  br label %done

done:
  ret void
}

; At the end of a list: tell the workers how long to wait for the next one.
define internal void @linger(ptr %team) {
  %patience.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 2
  %list.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 10
  %began.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 17
  %list = load ptr, ptr %list.at
  %shared.at = getelementptr inbounds %List, ptr %list, i64 0, i32 10
  %shared = load i64, ptr %shared.at
  %alone = icmp eq i64 %shared, 0
  br i1 %alone, label %done, label %share

share:
  %began = load i64, ptr %began.at
  %now = call i64 @now()
  %took = sub nsw i64 %now, %began
  %eighth = lshr i64 %took, 3
  %least = call i64 @llvm.smax.i64(i64 %eighth, i64 {{idle}})
  %most = call i64 @llvm.smin.i64(i64 %least, i64 {{linger}})
  %patience = trunc i64 %most to i32
  store atomic i32 %patience, ptr %patience.at monotonic, align 4
  br label %done

done:
  ret void
}

; Go on with a list for about 20 ms. 0: it is done, or cancelled with nobody left inside. 1: call again.
define i32 @resume(ptr %team) {
entry:
  %gate.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 4
  %waiting.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 5
  %next.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 7
  %wave.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 9
  %list.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 10
  %position.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 11
  %phase.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 12
  %cancel.at = getelementptr inbounds %Team, ptr %team, i64 0, i32 13
  %start = call i64 @now()
  %deadline = add nsw i64 %start, 20000000
  %phase = load i32, ptr %phase.at
  switch i32 %phase, label %next [ i32 1, label %take
                                   i32 2, label %wait ]

next:
  %cancel = load atomic i32, ptr %cancel.at monotonic, align 4
  %cancelled = icmp ne i32 %cancel, 0
  br i1 %cancelled, label %done, label %more

more:
  %list = load ptr, ptr %list.at
  %waves = load ptr, ptr %list
  %count.at = getelementptr inbounds %List, ptr %list, i64 0, i32 1
  %count = load i64, ptr %count.at
  %position = load i64, ptr %position.at
  %left = icmp ult i64 %position, %count
  br i1 %left, label %begin, label %done

begin:
  %wave = getelementptr inbounds %Wave, ptr %waves, i64 %position
  store ptr %wave, ptr %wave.at
  store i64 0, ptr %next.at
  store i32 1, ptr %phase.at
  %position.next = add nuw nsw i64 %position, 1
  store i64 %position.next, ptr %position.at
  %sharing.at = getelementptr inbounds %Wave, ptr %wave, i64 0, i32 3
  %sharing = load i64, ptr %sharing.at
  switch i64 %sharing, label %offer [ i64 0, label %take ]

offer:
  store atomic i32 65536, ptr %gate.at seq_cst, align 4
  %waking = icmp eq i64 %sharing, 2
  br i1 %waking, label %loud, label %quiet

loud:
  call void @ring(ptr %team)
  br label %take

quiet:
  %bell = atomicrmw add ptr %team, i32 1 seq_cst
  br label %take

take:
  %gone = call i1 @take(ptr %team, i64 %deadline)
  br i1 %gone, label %taken, label %again

taken:
  %wave.done = load ptr, ptr %wave.at
  %shared.at = getelementptr inbounds %Wave, ptr %wave.done, i64 0, i32 3
  %shared = load i64, ptr %shared.at
  %offered = icmp ne i64 %shared, 0
  br i1 %offered, label %shut, label %finished

shut:
  store i32 2, ptr %phase.at
  %gate.open = atomicrmw and ptr %gate.at, i32 65535 seq_cst
  br label %wait

wait:
  %since = call i64 @now()
  br label %settle

settle:
  %turn = phi i32 [ 0, %wait ], [ %turn.next, %settle.spin ], [ %turn.next, %settle.round ]
  %inside = load atomic i32, ptr %gate.at acquire, align 4
  %empty = icmp eq i32 %inside, 0
  br i1 %empty, label %finished, label %settle.spin

settle.spin:
  call void @pause()
  %turn.next = add nuw nsw i32 %turn, 1
  %round = and i32 %turn.next, 63
  %in.round = icmp ne i32 %round, 0
  br i1 %in.round, label %settle, label %settle.round

settle.round:
  %clock = call i64 @now()
  %spent = sub nsw i64 %clock, %since
  %patient = icmp slt i64 %spent, {{held}}
  br i1 %patient, label %settle, label %doze

doze:
  store atomic i32 1, ptr %waiting.at seq_cst, align 4
  %inside.now = load atomic i32, ptr %gate.at seq_cst, align 4
  %empty.now = icmp eq i32 %inside.now, 0
  br i1 %empty.now, label %awake, label %doze.on

doze.on:
  call void @sleep(ptr %gate.at, i32 %inside.now, ptr @nap)
  br label %awake

awake:
  store atomic i32 0, ptr %waiting.at seq_cst, align 4
  %gate.after = load atomic i32, ptr %gate.at acquire, align 4
  %settled = icmp eq i32 %gate.after, 0
  br i1 %settled, label %finished, label %patience

patience:
  %now = call i64 @now()
  %late = icmp sgt i64 %now, %deadline
  br i1 %late, label %again, label %doze

finished:
  store i32 0, ptr %phase.at
  br label %next

done:
  call void @linger(ptr %team)
  ret i32 0

again:
  ret i32 1
}
