;;; rlm-forks.el --- Show forks beside what they began from  -*- lexical-binding: t; -*-

;; This program is free software: you can redistribute it and/or modify
;; it under the terms of the GNU General Public License as published by
;; the Free Software Foundation, either version 3 of the License, or
;; (at your option) any later version.

;; This program is distributed in the hope that it will be useful,
;; but WITHOUT ANY WARRANTY; without even the implied warranty of
;; MERCHANTABILITY or FITNESS FOR A PARTICULAR PURPOSE.  See the
;; GNU General Public License for more details.

;; You should have received a copy of the GNU General Public License
;; along with this program.  If not, see <https://www.gnu.org/licenses/>.

;;; Commentary:

;; A fork is a run with a log and a buffer of its own.  In the buffer of the
;; run that it began from, a heading beside the iteration shows it: what is
;; different in it, a link to it, and what came of it.  Of forks that another
;; Emacs has begun, or this one before it was started, the server's list of
;; runs tells when the buffer is drawn from the log.

;;; Code:

(require 'cl-lib)
(require 'org)
(require 'subr-x)
(require 'rlm-fold)
(require 'rlm-node)
(require 'rlm-node-parts)
(require 'rlm-org)
(require 'rlm-rpc)
(require 'rlm-run)
(require 'rlm-trajectory)

(cl-defstruct (rlm-forked (:constructor rlm-forked--make) (:copier nil))
  "A fork of a run."
  id iteration
  (changes nil)               ; plist, as `rlm-fork-run' takes it; nil: not known
  (run nil)                   ; the `rlm-run' once it has ended
  (place nil))                ; marker at its heading, or nil

(defvar-local rlm-forks--known nil
  "The forks of this buffer's run, oldest first.")

(defun rlm-forks-add (buffer fork iteration id changes)
  "Show in BUFFER, of a run, that the buffer FORK is of a fork of it.
That is the run ID, like the other until ITERATION, but for CHANGES."
  (let ((new (rlm-forked--make :id id :iteration iteration :changes changes)))
    (with-current-buffer buffer
      (rlm-forks--note new)
      (rlm-forks--draw new))
    (with-current-buffer fork
      (add-hook 'rlm-after-run-functions
                (lambda (run)
                  (when (buffer-live-p buffer)
                    (with-current-buffer buffer
                      (rlm-forks--ended new run))))
                nil t))))

(defun rlm-forks--note (fork)
  "Let FORK be one of this buffer's run, and drawn as often as that is."
  (setq rlm-forks--known (append rlm-forks--known (list fork)))
  (add-hook 'rlm-trajectory-drawn-hook #'rlm-forks--draw-again nil t))

(defun rlm-forks-ask (buffer)
  "Show in BUFFER, which is being drawn from the log of its run, the forks of that."
  (rlm-rpc-ask 'rlm/runs (list :forkOf (rlm-run-id (rlm-run-in-buffer buffer))
                               :sort "started" :ascending t :limit 1000)
               (lambda (result)
                 (when (buffer-live-p buffer)
                   (with-current-buffer buffer
                     (mapc #'rlm-forks--listed (plist-get result :runs))
                     (rlm-forks--draw-again))))
               #'ignore))

(defun rlm-forks--listed (summary)
  "Note the fork that SUMMARY, a plist, is about, and how it is now."
  (let* ((id (plist-get summary :runId))
         (status (plist-get summary :status))
         (fork (seq-find (lambda (fork) (equal id (rlm-forked-id fork))) rlm-forks--known))
         (run (and fork (rlm-forked-run fork))))
    (unless fork
      (setq fork (rlm-forked--make :id id :iteration (plist-get summary :forkedAt)))
      (rlm-forks--note fork))
    (unless (equal status (if run (rlm-run-status run) "running"))
      (setf (rlm-forked-run fork)
            (unless (equal status "running")
              (rlm-run--make :id id :status status :reason ""
                             :seconds (plist-get summary :seconds))))
      (when (rlm-forks--there-p fork)
        (rlm-forks--draw fork)))))

(defun rlm-forks--ended (fork run)
  "Show in this buffer that FORK has ended as RUN."
  (setf (rlm-forked-run fork) run)
  (rlm-forks--draw fork)
  (unless (rlm-run-live-p rlm-run-current)
    (rlm-trajectory-save)))

(defun rlm-forks--draw-again ()
  "Draw the forks that this buffer lacks, since it was drawn anew."
  (unless (rlm-trajectory-replaying-p (current-buffer))
    (dolist (fork rlm-forks--known)
      (unless (rlm-forks--there-p fork)
        (rlm-forks--draw fork)))))

(defun rlm-forks--there-p (fork)
  "Return non-nil if FORK is drawn in this buffer."
  (let ((place (rlm-forked-place fork)))
    (and place
         (org-with-wide-buffer
          (goto-char place)
          (looking-at-p (concat "\\*\\* Fork at .*\n:PROPERTIES:\n:RLM_FORK: "
                                (regexp-quote (rlm-forked-id fork)) "$"))))))

(defun rlm-forks--draw (fork)
  "Draw FORK in this buffer, beside its iteration, if that is drawn."
  (rlm-trajectory-amend
   (lambda ()
     (let* ((there (rlm-forks--there-p fork))
            (old (and there (marker-position (rlm-forked-place fork))))
            (fold (and there (rlm-forks--fold fork)))
            (place (if there
                       (rlm-forks--end fork)
                     (rlm-forks--after (rlm-forked-iteration fork)))))
       (when place
         (rlm-forks--insert fork place (if there fold (rlm-forks--fold-before place)))
         ;; Only now: who is at its heading would else be taken for who is at the next one.
         (when there
           (rlm-fold-delete old place)))))))

(defun rlm-forks--fold (fork)
  "Return what is hidden of FORK: nil, or `text', or `all' with its heading."
  (save-excursion
    (goto-char (rlm-forked-place fork))
    (cond ((invisible-p (point)) 'all)
          ((invisible-p (line-end-position)) 'text))))

(defun rlm-forks--fold-before (place)
  "Return what is to be hidden of a fork at PLACE, as `rlm-forks--fold' has it.
That is `all' if the heading is hidden of what it stands beside."
  (save-excursion
    (goto-char place)
    (re-search-backward "^\\*\\* ")
    (and (invisible-p (point)) 'all)))

(defun rlm-forks--end (fork)
  "Return where FORK ends in this buffer."
  (save-excursion
    (goto-char (rlm-forked-place fork))
    (outline-next-heading)
    (point)))

(defun rlm-forks--after (iteration)
  "Return where the subtree of ITERATION ends, and the forks of it; or nil."
  (goto-char (point-min))
  (let ((case-fold-search nil))
    (when (re-search-forward (format "^\\*\\* Iteration %d\\>" iteration) nil t)
      (while (and (re-search-forward "^\\*\\*? " nil 'move)
                  (save-excursion
                    (forward-line 0)
                    (looking-at-p (format "\\*\\* Fork at iteration %d\\>" iteration)))))
      (if (eobp) (point) (line-beginning-position)))))

(defun rlm-forks--insert (fork place fold)
  "Insert FORK at PLACE in this buffer; FOLD is as `rlm-forks--fold' has it."
  (goto-char place)
  (unless (bolp)
    (insert "\n"))
  (rlm-fold-show-newline)
  (let ((beg (point)) (end nil))
    (rlm-fold-insert (rlm-forks--text fork))
    (setq end (point))
    ;; What is inserted at a fork comes before it: another one may be drawn again there.
    (setf (rlm-forked-place fork) (copy-marker beg t))
    (rlm-node--extend (gethash "0" rlm-node-table))
    (goto-char beg)
    (rlm-fold-drawer (line-beginning-position 2))
    (pcase fold
      ('text (rlm-fold-heading beg end))
      ('all (rlm-fold-up-to (rlm-fold-beginning (1- beg)) end)))))

(defun rlm-forks--text (fork)
  "Return the text for FORK."
  (let* ((run (rlm-forked-run fork))
         (changes (rlm-forked-changes fork))
         (code (plist-get changes :code))
         (status (if run (rlm-run-status run) "running")))
    (concat
     (format "** Fork at iteration %d%s%s\n" (rlm-forked-iteration fork)
             (if changes (concat " with " (rlm-forks--difference changes)) "")
             (if run
                 (format " (%s, %s)" status (rlm-figure-seconds (or (rlm-run-seconds run) 0)))
               ""))
     (format ":PROPERTIES:\n:RLM_FORK: %s\n:RLM_STATUS: %s\n:END:\n" (rlm-forked-id fork) status)
     (org-link-make-string (concat "rlm:" (rlm-forked-id fork)) "The fork in its own buffer") "\n"
     (if (not (stringp code))
         ""
       (concat "\n#+begin_src python\n" (rlm-org-block code) "#+end_src\n"))
     (rlm-forks--outcome run))))

(defun rlm-forks--difference (what)
  "Return in words WHAT is different in a fork, a plist."
  (cond ((plist-get what :code) "other code")
        ((plist-get what :note) "a note")
        ((plist-get (plist-get what :options) :rootModel) "another model")
        (t "other limits")))

(defun rlm-forks--outcome (run)
  "Return what came of a fork that has ended as RUN; nil: it is live."
  (let ((answer (and run (rlm-run-answer run)))
        (reason (and run (rlm-run-reason run))))
    (cond ((null run) "")
          ((and answer (not (string-blank-p answer)))
           (concat "\nIts answer:\n\n" (string-trim (rlm-node-prose (rlm-forks--clip answer))) "\n"))
          ;; Of one that the server has listed, neither is known here.
          ((equal reason "") "")
          (t (concat "\n" (rlm-org-prose (or reason "It has no answer.")) "\n")))))

(defun rlm-forks--clip (text)
  "Return TEXT, or its first lines if it is long."
  (if (< (length text) 2000)
      (string-trim text)
    (let ((start (substring text 0 2000)))
      (concat (string-trim (substring start 0 (string-match-p "\n[^\n]*\\'" start))) "\n..."))))

(provide 'rlm-forks)
;;; rlm-forks.el ends here
